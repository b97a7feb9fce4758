"""Each operation of the agent is one whose agent is killed on real parts; or it is said where else that is shown."""

from __future__ import annotations

from compute_agent.agent.operations import operation_names
from tests.functional.disk_deaths import CASES
from tests.functional.incident_deaths import INCIDENTS
from tests.functional.layer_deaths import LAYERS
from tests.functional.life_deaths import LIFE
from tests.functional.move_deaths import BETWEEN_DISKS, IN_CLUSTER

ELSEWHERE = {
    "host_boot": "tests/host/test_power.py",
    "disk_error": "tests/unit/agent/test_crash.py",
}


def test_no_operation_is_left_out() -> None:
    on_real_parts = {
        case.operation for cases in (CASES, LIFE, LAYERS, INCIDENTS) for case in cases.values() if case.is_journaled
    }
    on_real_parts |= {move.operation for moves in (BETWEEN_DISKS, IN_CLUSTER) for move in moves.values()}
    assert on_real_parts | ELSEWHERE.keys() == operation_names()
    assert not on_real_parts & ELSEWHERE.keys()
