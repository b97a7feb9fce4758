"""A guest finds its devices, sizes and moves their registers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import InsufficientResources
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.bus import SLOTS, WINDOWS
from compute_agent.virt.vmm.pci.configuration import Header, Identity
from compute_agent.virt.vmm.pci.device import PciDevice
from tests.unit.virt.vmm.parts import MIB, Function, Parts
from tests.unit.virt.vmm.test_address_space import Scratch

ECAM = 0xE0000000


class Card(PciDevice):
    """Registers of 8 KiB and of 16 bytes."""

    def __init__(self) -> None:
        super().__init__(Identity(0x1AF4, 0x1044, 0x00FF00, 1, 0x1AF4, 0x40))
        self.large, self.small, self.moves = Scratch(), Scratch(), list[int | None]()
        self.add_bar(0, 0x2000, self.large, self.moves.append)
        self.add_bar(1, 16, self.small)


@pytest.fixture
def card(parts: Parts) -> Card:
    card = Card()
    assert parts.bus.add(card) == 1
    return card


def test_who_is_there(parts: Parts, card: Card) -> None:
    assert Function(parts, 0).read(Header.VENDOR, 4) == 0x12378086
    function = Function(parts, 1)
    assert function.read(Header.VENDOR, 2) == 0x1AF4
    assert function.read(Header.DEVICE, 2) == 0x1044
    assert function.read(Header.CLASS_AND_REVISION, 4) == 0x00FF0001
    assert function.read(Header.SUBSYSTEM, 1) == 0x40
    assert Function(parts, 2).read(Header.VENDOR, 4) == 0xFFFFFFFF
    assert [slot for slot, _ in parts.bus] == [0, 1]


def test_the_window_in_memory_shows_the_same(parts: Parts, card: Card) -> None:
    assert parts.memory.read(ECAM + (1 << 15), 4) == 0x10441AF4
    assert parts.memory.read(ECAM + (1 << 15) + 0x100, 4) == 0
    assert parts.memory.read(ECAM + (1 << 15) + (1 << 12), 4) == 0xFFFFFFFF
    parts.memory.write(ECAM + (1 << 15) + Header.COMMAND, 2, 2)
    assert Function(parts, 1).read(Header.COMMAND, 2) == 2


def test_registers_are_where_the_guest_wants_them(parts: Parts, card: Card) -> None:
    function = Function(parts, 1)
    function.write(Header.BARS, 4, 0xFFFFFFFF)
    assert function.read(Header.BARS, 4) == 0xFFFFE000
    function.write(Header.BARS, 4, 0xC0100FFF)
    assert function.read(Header.BARS, 4) == 0xC0100000
    assert parts.memory.read(0xC0100000, 4) == 0xFFFFFFFF
    assert not card.moves
    function.enable()
    parts.memory.write(0xC0100010, 4, 5)
    assert card.large.written == [(0x10, 4, 5)]
    function.write(Header.BARS, 4, 0xFEBFE000)
    parts.memory.write(0xFEBFE008, 2, 6)
    assert card.large.written[1:] == [(8, 2, 6)]
    function.write(Header.COMMAND, 2, 0)
    assert card.moves == [0xC0100000, 0xFEBFE000, None]


def test_registers_have_a_place_from_the_start(parts: Parts, card: Card) -> None:
    function = Function(parts, 1)
    function.enable()
    assert WINDOWS[0].start <= function.bar(0) < function.bar(1) < WINDOWS[0].stop
    parts.memory.write(function.bar(1), 1, 9)
    assert card.small.written == [(0, 1, 9)]


@pytest.mark.parametrize("address", [0, 0x1000, 0xBFFFF000, ECAM, 0xFEC00000, 0xFEE00000, 0xFFFFF000])
def test_registers_are_never_where_other_things_are(parts: Parts, card: Card, address: int) -> None:
    function = Function(parts, 1)
    function.enable()
    function.write(Header.BARS, 4, address)
    assert card.moves[-1] is None


def test_two_at_one_address_leave_the_second_one_out(parts: Parts, card: Card) -> None:
    second = Card()
    slot = parts.bus.add(second)
    for number in (1, slot):
        Function(parts, number).enable()
        Function(parts, number).write(Header.BARS, 4, 0xC0200000)
    parts.memory.write(0xC0200000, 1, 1)
    assert card.large.written
    assert not second.large.written
    assert second.moves[-1] is None


def test_a_device_that_is_pulled_out_is_gone(parts: Parts, card: Card) -> None:
    function = Function(parts, 1)
    function.enable()
    place = function.bar(0)
    assert parts.bus.remove(1) is card
    assert parts.memory.read(place, 1) == 0xFF
    assert function.read(Header.VENDOR, 2) == 0xFFFF
    card.unplug()


def test_there_is_no_slot_for_one_more(parts: Parts) -> None:
    for _ in range(SLOTS - 1):
        parts.bus.add(Card())
    with pytest.raises(InsufficientResources, match="no free slot"):
        parts.bus.add(Card())
    with pytest.raises(InsufficientResources):
        parts.bus.add(Card(), slot=3)


def test_a_suspended_machine_has_it_where_it_was(parts: Parts, card: Card) -> None:
    Function(parts, 1).enable()
    Function(parts, 1).write(Header.BARS, 4, 0xC0300000)
    with GuestRam(MIB) as ram:
        again, other = Parts(ram), Card()
        again.bus.add(other)
        again.bus.restore(parts.bus.state())
        other.restore_pci(card.pci_state())
        again.memory.write(0xC0300000, 1, 1)
        assert again.ports.read(0xCF8, 4) == parts.ports.read(0xCF8, 4) != 0
    assert other.large.written == [(0, 1, 1)]


def test_bios_shadowing_registers_of_the_bridge(parts: Parts) -> None:
    bridge = Function(parts, 0)
    assert bridge.read(0x59, 1) == 0
    bridge.write(0x59, 1, 0x30)
    assert bridge.read(0x59, 1) == 0x30
    parts.bus.reset()
    assert bridge.read(0x59, 1) == 0


def test_after_a_reset_devices_are_off(parts: Parts, card: Card) -> None:
    Function(parts, 1).enable()
    parts.bus.reset()
    assert parts.ports.read(0xCF8, 4) == 0
    assert card.moves[-1] is None
    assert Function(parts, 1).read(Header.COMMAND, 2) == 0


_ACCESS = st.tuples(st.integers(0, 0xFFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))


@given(st.lists(_ACCESS, max_size=40))
def test_nothing_that_a_guest_writes_to_the_bus_hurts(accesses: list[tuple[int, int, int]]) -> None:
    with GuestRam(MIB) as ram:
        parts = Parts(ram)
        parts.bus.add(Card())
        for place, size, value in accesses:
            written = value & (1 << 8 * size) - 1
            for space, address in ((parts.ports, 0xCF8 + place % 8), (parts.memory, ECAM + place)):
                space.write(address, size, written)
                assert 0 <= space.read(address, size) < 1 << 8 * size
