"""Each operation of the agent is one whose agent is killed on real parts; or it is said where else that is shown."""

from __future__ import annotations

from compute_agent.agent.operations import operation_names
from tests.functional.disk_deaths import CASES
from tests.functional.incident_deaths import INCIDENTS
from tests.functional.layer_deaths import LAYERS
from tests.functional.life_deaths import LIFE

ELSEWHERE = {
    "live_migration": "tests/host/test_migration.py",
    "pre_live_migration": "tests/host/test_migration.py",
    "start_at_destination": "tests/unit/agent/test_live_migration.py",
    "post_live_migration_at_destination": "tests/host/test_migration.py",
    "rollback_live_migration_at_destination": "tests/host/test_migration.py",
    "migrate": "tests/unit/agent/test_migrate.py",
    "evacuate": "tests/unit/agent/test_evacuate.py",
    "evacuated": "tests/unit/agent/test_evacuate.py",
    "host_boot": "tests/host/test_power.py",
    "disk_error": "tests/unit/agent/test_crash.py",
}


def test_no_operation_is_left_out() -> None:
    on_real_parts = {
        case.operation for cases in (CASES, LIFE, LAYERS, INCIDENTS) for case in cases.values() if case.is_journaled
    }
    assert on_real_parts | ELSEWHERE.keys() == operation_names()
    assert not on_real_parts & ELSEWHERE.keys()
