"""How far a guest is on its way to another host, and how long it will still take."""

from __future__ import annotations

from typing import Any

import pytest

from compute_agent.virt.process.way_left import WayLeft

MIB = 2**20


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def memory(remaining: int, sent: int, written: int = 0) -> dict[str, Any]:
    """As QEMU tells; `sent` and `written` in pages a second."""
    ram = {"total": 100 * MIB, "remaining": remaining, "page-size": 4096}
    rates = {"pages-per-second": sent, "dirty-pages-rate": written}
    return {"status": "active", "expected-downtime": 300, "ram": ram | rates}


def disk(done: int, total: int = 100 * MIB) -> list[dict[str, Any]]:
    return [{"id": "mirror-disk0", "status": "running", "current-progress": done, "total-progress": total}]


def test_memory_takes_as_long_as_it_gets_less() -> None:
    progress = WayLeft().look(memory(40 * MIB, sent=3072, written=512), [])
    assert (progress.stage, progress.remaining, progress.percent) == ("memory", 40 * MIB, 60)
    assert (progress.dirty_rate, progress.expected_downtime) == (2 * MIB, 0.3)
    assert progress.time_left == 4.0


@pytest.mark.parametrize(("sent", "written"), [(0, 0), (1000, 1000), (1000, 2000)])
def test_nobody_knows_when_memory_is_there_that_does_not_get_less(sent: int, written: int) -> None:
    assert WayLeft().look(memory(40 * MIB, sent, written), []).time_left is None


def test_memory_that_is_there() -> None:
    assert WayLeft().look(memory(0, sent=1), []).time_left == 0.0


def test_before_anything_is_told_of_memory() -> None:
    progress = WayLeft().look({"status": "setup"}, [])
    assert (progress.stage, progress.percent, progress.time_left) == ("memory", 0, None)


def test_disks_take_as_long_as_two_looks_show() -> None:
    now = Clock()
    way = WayLeft(now)
    assert way.look({}, disk(0)).time_left is None
    now.seconds = 0.1
    assert way.look({}, disk(0)).time_left is None, "too soon after the first look"
    now.seconds = 2.0
    assert way.look({}, disk(20 * MIB)).time_left == 8.0
    now.seconds = 2.1
    assert way.look({}, disk(21 * MIB)).time_left == 7.9, "as fast as it was"
    now.seconds = 4.0
    assert way.look({}, disk(100 * MIB)).time_left == 0.0


def test_disks_that_get_more() -> None:
    now = Clock()
    way = WayLeft(now)
    way.look({}, disk(10 * MIB))
    now.seconds = 1.0
    assert way.look({}, disk(20 * MIB, total=120 * MIB)).time_left is None


def test_several_disks_are_one_way() -> None:
    now = Clock()
    way = WayLeft(now)
    way.look({}, [*disk(0), *disk(50 * MIB)])
    now.seconds = 1.0
    progress = way.look({}, [*disk(10 * MIB), *disk(90 * MIB)])
    assert (progress.stage, progress.remaining, progress.time_left) == ("disks", 100 * MIB, 2.0)
