"""The order of events is QEMU's: see do_vm_stop in softmmu/cpus.c. On a real disk: tests/functional/test_disks.py."""

from __future__ import annotations

from typing import Any

from compute_agent.virt.contract import DiskFailure
from compute_agent.virt.process.disk_failures import DiskFailures
from compute_agent.virt.qemu.block_nodes import disk_of

STOP: dict[str, Any] = {"event": "STOP"}
RESUME: dict[str, Any] = {"event": "RESUME"}


def error(node: str, *, nospace: bool, action: str = "stop") -> dict[str, Any]:
    data = {"node-name": node, "nospace": nospace, "action": action, "operation": "write", "reason": "it is bad"}
    return {"event": "BLOCK_IO_ERROR", "data": data}


def news_of(*events: dict[str, Any]) -> list[DiskFailure]:
    told: list[DiskFailure] = []
    failures = DiskFailures("an instance", told.append, disk_of)
    for event in events:
        failures.heard(event)
    return told


def test_several_errors_of_one_pause_are_one_piece_of_news() -> None:
    full, bad = error("disk0", nospace=True), error("disk1.b", nospace=False)
    assert news_of(full, bad, full, STOP) == [
        DiskFailure(instance_uuid="an instance", disk="disk0", reason="no_space", detail="write: it is bad")
    ]
    assert [(one.disk, one.reason) for one in news_of(full, STOP, RESUME, bad, STOP)] == [
        ("disk0", "no_space"),
        ("disk1", "io_error"),
    ]


def test_nothing_is_told_before_the_guest_is_paused() -> None:
    assert news_of(error("disk0", nospace=True)) == []


def test_error_of_a_guest_that_was_paused_already_is_no_news_of_the_next_pause() -> None:
    assert news_of(STOP, error("disk0", nospace=True), RESUME, STOP) == []


def test_error_that_stops_nothing_is_no_news() -> None:
    assert news_of(error("disk0", nospace=False, action="report"), STOP) == []
