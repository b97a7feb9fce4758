"""A guest's way out of a QEMU that says what the test wants: only what the agent asks and tells it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compute_agent.instance.devices import NbdSource
from compute_agent.virt.migration import Pace
from compute_agent.virt.qemu.migration.outgoing import QemuOutgoing

PACE = Pace(bandwidth=1000, downtime=0.5)


class FakeMonitor:
    """Answers what it was told to."""

    def __init__(self) -> None:
        self.status: list[str] = ["active"]
        """Of the migration, in turn; the last one stays."""
        self.run_state = "running"
        self.heard: list[str] = []
        self.told: dict[str, Any] = {}
        """What each command was given at last."""

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, **_: object) -> Any:
        self.heard.append(command)
        self.told[command] = arguments
        if command == "query-migrate":
            return {"status": self.status.pop(0) if len(self.status) > 1 else self.status[0]}
        if command == "query-migrate-capabilities":
            return self.told.get("migrate-set-capabilities", {"capabilities": []})["capabilities"]
        return {"status": self.run_state} if command == "query-status" else []

    @property
    def capabilities(self) -> set[str]:
        """Those that are on."""
        told = self.told["migrate-set-capabilities"]["capabilities"]
        return {one["capability"] for one in told if one["state"]}


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()


@pytest.fixture
def outgoing(monitor: FakeMonitor, tmp_path: Path) -> QemuOutgoing:
    return QemuOutgoing(monitor.execute, str, 1.0, tmp_path)


def test_all_of_it_is_there_a_moment_before_qemu_says_so_for_good(monitor: FakeMonitor, outgoing: QemuOutgoing) -> None:
    monitor.status, monitor.run_state = ["active"], "finish-migrate"
    assert outgoing.advance(0).stage == "memory"
    monitor.status = ["completed"]
    assert outgoing.advance(0).stage == "complete"


def test_a_guest_that_was_halted_waits_for_nothing_but_its_disks(monitor: FakeMonitor, outgoing: QemuOutgoing) -> None:
    monitor.status, monitor.run_state = ["pre-switchover", "device"], "finish-migrate"
    outgoing.advance(0)
    before = monitor.heard[: monitor.heard.index("migrate-continue")]
    assert set(before) == {"query-migrate", "query-jobs", "query-named-block-nodes"}


def test_a_pace_is_told_once_and_anew_for_each_migration(monitor: FakeMonitor, outgoing: QemuOutgoing) -> None:
    outgoing.begin(0, {}, PACE, None)
    monitor.heard.clear()
    outgoing.set_pace(PACE)
    assert monitor.heard == []
    outgoing.set_pace(Pace())
    assert monitor.told["migrate-set-parameters"] == {
        "max-bandwidth": 1 << 50,
        "downtime-limit": 300,
        "throttle-trigger-threshold": 100,
        "max-postcopy-bandwidth": 0,
    }
    monitor.heard.clear()
    outgoing.begin(0, {}, Pace(), None)
    assert "migrate-set-parameters" in monitor.heard


@pytest.mark.parametrize("compresses", [True, False])
def test_memory_is_compressed_where_that_is_wished(
    monitor: FakeMonitor, outgoing: QemuOutgoing, compresses: bool
) -> None:
    outgoing.begin(0, {}, Pace(compresses=compresses), None)
    assert ("xbzrle" in monitor.capabilities) is compresses
    monitor.status = ["cancelled"]
    outgoing.cancel()
    assert monitor.capabilities == set()


def test_it_halts_for_nobody_who_has_nothing_to_do_then(monitor: FakeMonitor, outgoing: QemuOutgoing) -> None:
    outgoing.begin(0, {}, PACE, None)
    assert "pause-before-switchover" not in monitor.capabilities
    outgoing.begin(0, {"disk0": NbdSource(export="disk0", fd=0)}, PACE, None)
    assert "pause-before-switchover" in monitor.capabilities


def test_where_nothing_has_begun_nothing_is_cancelled(monitor: FakeMonitor, outgoing: QemuOutgoing) -> None:
    outgoing.cancel()
    assert {command.partition("-")[0] for command in monitor.heard} == {"query"}
    outgoing.begin(0, {}, PACE, None)
    monitor.status = ["cancelled"]
    outgoing.cancel()
    assert "migrate_cancel" in monitor.heard
    assert monitor.heard[-1] == "migrate-set-capabilities", "whoever dies before that has all of it done again"
