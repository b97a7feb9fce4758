"""Devices in a machine's slots: whoever does not get in is closed, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compute_agent.errors import InsufficientResources, MonitorError
from compute_agent.virt.kvm.board import Board
from compute_agent.virt.vmm.chipset import Chipset
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.slots import Slots
from compute_agent.virt.vmm.virtio.rng import Rng
from tests.unit.virt.vmm.parts import MIB, KvmRecord


class Device(Rng):
    def __init__(self, ram: GuestRam) -> None:
        super().__init__(ram)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class World:
    def __init__(self, ram: GuestRam) -> None:
        self.ram, self.kvm = ram, KvmRecord()
        interrupts = Interrupts(self.kvm)
        chipset = Chipset(
            interrupts, Board(-1, -1), reset=lambda: None, power_off=lambda: None, eject=lambda slot: None
        )
        self.slots = Slots(chipset, ram, interrupts, self.kvm)
        self.first = Device(ram)
        self.slots.add("one", 5, self.first)


@pytest.fixture
def world() -> Iterator[World]:
    with GuestRam(4 * MIB) as ram:
        yield World(ram)


@pytest.mark.parametrize(
    ("name", "slot", "error"),
    [("one", 6, MonitorError), ("two", 5, InsufficientResources), ("two", 32, InsufficientResources)],
)
def test_a_device_that_finds_no_place_is_closed(world: World, name: str, slot: int, error: type[Exception]) -> None:
    late = Device(world.ram)
    with pytest.raises(error):
        world.slots.add(name, slot, late)
    assert late.is_closed
    assert not world.first.is_closed
    assert [found for found, _ in world.slots.devices(Device)] == ["one"]


def test_a_slot_is_free_again_when_its_device_is_out(world: World) -> None:
    assert world.slots.eject(5) == "one"
    assert world.slots.eject(5) is None
    assert world.first.is_closed
    world.slots.add("one", 5, Device(world.ram))


def test_what_is_not_there_is_named(world: World) -> None:
    with pytest.raises(MonitorError, match="Device 'two' not found"):
        world.slots.ask_for("two")
