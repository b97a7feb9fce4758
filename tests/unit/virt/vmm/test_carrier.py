"""A machine is saved in the background, as a client of QEMU's expects it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from threading import Event
from typing import BinaryIO

import pytest

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.carrier import Carrier
from compute_agent.virt.vmm.saver import Saving
from tests.unit.virt.waiting import until


class World:
    def __init__(self) -> None:
        self.file = os.memfd_create("state")
        self.saved: list[bool] = []
        self.may_go_on = Event()
        self.told: list[str] = []
        self.carrier = Carrier(self.told.append)

    def save(self, file: int | None = None) -> None:
        fd = os.dup(self.file) if file is None else file
        self.carrier.begin(Saving(fd, 8, self.write, lambda: self.saved.append(True)))

    def write(self, file: BinaryIO, go_on: Callable[[int], bool]) -> None:
        file.write(b"half")
        if not go_on(4):
            raise InterruptedError
        assert self.may_go_on.wait(10)
        if not go_on(6):
            raise InterruptedError
        file.write(b"more")

    @property
    def status(self) -> object:
        return self.carrier.describe().get("status")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.may_go_on.set()
    until(lambda: not world.carrier.is_active)
    os.close(world.file)


def test_nothing_is_said_before_anything_was_asked_for(world: World) -> None:
    assert world.carrier.describe() == {}


def test_it_is_written_and_told_of_at_the_end(world: World) -> None:
    world.save()
    until(lambda: world.carrier.describe() == {"status": "active", "ram": {"transferred": 4, "total": 8}})
    assert not world.saved
    world.may_go_on.set()
    until(lambda: world.status == "completed")
    assert (world.saved, os.pread(world.file, 100, 0)) == ([True], b"halfmore")
    until(lambda: world.told == ["completed"])


def test_one_at_a_time(world: World) -> None:
    world.save()
    assert world.carrier.holds_still
    with pytest.raises(MonitorError, match="in progress"):
        world.carrier.require_idle()


def test_it_can_be_cancelled(world: World) -> None:
    world.save()
    world.carrier.cancel()
    world.may_go_on.set()
    until(lambda: world.status == "cancelled")
    assert not world.saved


def test_why_it_failed_is_said(world: World) -> None:
    world.may_go_on.set()
    world.save(os.open("/dev/full", os.O_WRONLY))
    until(lambda: world.status == "failed")
    assert "No space left" in str(world.carrier.describe()["error-desc"])
    assert not world.saved
