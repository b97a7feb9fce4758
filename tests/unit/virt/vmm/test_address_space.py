"""Each address belongs to one device, or to none."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import AddressInUse
from compute_agent.virt.vmm.address_space import AddressSpace


class Scratch:
    """Remembers what was written where."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return 0x1_0000_0000_1234 + offset

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))


def a_space() -> AddressSpace:
    return AddressSpace(threading.RLock())


def test_the_device_hears_of_offsets_and_answers_no_wider_than_asked() -> None:
    space, device = a_space(), Scratch()
    space.add(0x100, 0x10, device)
    space.write(0x104, 2, 7)
    assert device.written == [(4, 2, 7)]
    assert space.read(0x104, 2) == 0x1238
    assert space.read(0x104, 1) == 0x38


@pytest.mark.parametrize(("address", "size"), [(0xFF, 1), (0x110, 1), (0x10F, 2), (0xFF, 4), (0, 8)])
def test_where_nothing_is_reads_are_ones(address: int, size: int) -> None:
    space, device = a_space(), Scratch()
    space.add(0x100, 0x10, device)
    space.write(address, size, 1)
    assert space.read(address, size) == (1 << 8 * size) - 1
    assert not device.written


def test_devices_move_and_go() -> None:
    space, first, second = a_space(), Scratch(), Scratch()
    space.add(0x100, 0x10, first)
    space.add(0x110, 0x10, second)
    with pytest.raises(AddressInUse, match="0x101-0x110 is taken by what is at 0x110"):
        space.move(first, 0x101)
    space.write(0x100, 1, 1)
    space.move(first, 0x200)
    space.write(0x200, 1, 2)
    space.write(0x100, 1, 3)
    space.remove(second)
    space.remove(second)
    space.move(first, 0x118)
    assert first.written == [(0, 1, 1), (0, 1, 2)]
    assert not second.written


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12))
def test_no_two_ever_overlap(wanted: list[tuple[int, int]]) -> None:
    space, owners = a_space(), dict[int, Scratch]()
    for start, size in wanted:
        device, addresses = Scratch(), range(start, start + size)
        if any(address in owners for address in addresses):
            with pytest.raises(AddressInUse):
                space.add(start, size, device)
        else:
            space.add(start, size, device)
            owners.update(dict.fromkeys(addresses, device))
    for address in range(90):
        space.write(address, 1, address)
    for address in range(90):
        written = [value for device in set(owners.values()) for _, _, value in device.written if value == address]
        assert written == ([address] if address in owners else [])
        if address in owners:
            assert address in [value for _, _, value in owners[address].written]
