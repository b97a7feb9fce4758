"""Accesses of a processor reach the device that is meant, and its answer comes back."""

from __future__ import annotations

import threading

import pytest

from compute_agent.errors import MachineError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.vmm.address_space import AddressSpace
from compute_agent.virt.vmm.exit_server import ExitServer

IN, OUT, DATA = 0, 1, 3000
PORT, ADDRESS = 0x500, 0xD0000000


class Registers:
    """Counts up, and remembers what was written."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int, int]] = []
        self._next = 0x11

    def read(self, offset: int, size: int) -> int:
        self._next += 1
        return self._next | 0x1122334455667700

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))


class World:
    def __init__(self) -> None:
        self.content = ffi.new("char[4096]")
        self.shared = ffi.cast("struct kvm_run *", self.content)
        self.device, self.falls = Registers(), 0
        ports, memory = (AddressSpace(threading.RLock()) for _ in range(2))
        ports.add(PORT, 8, self.device)
        memory.add(ADDRESS, 0x1000, self.device)
        self.serve = ExitServer([self.shared], ports, memory, self.fall)

    def fall(self) -> None:
        self.falls += 1

    def access_port(self, direction: int, size: int, count: int, data: bytes, port: int = PORT) -> bytes:
        access = self.shared.io
        access.direction, access.size, access.count = direction, size, count
        access.port, access.data_offset = port, DATA
        room = ffi.buffer(self.content)
        room[DATA : DATA + len(data)] = data
        self.serve(0, ExitReason.KVM_EXIT_IO)
        return bytes(room[DATA : DATA + len(data)])


@pytest.fixture
def world() -> World:
    return World()


def test_a_string_of_writes_is_one_after_the_other(world: World) -> None:
    world.access_port(OUT, 2, 3, bytes([1, 2, 3, 4, 5, 6]))
    assert world.device.written == [(0, 2, 0x0201), (0, 2, 0x0403), (0, 2, 0x0605)]


def test_a_string_of_reads_asks_each_time(world: World) -> None:
    assert world.access_port(IN, 1, 3, bytes(5)) == bytes([0x12 | 0x00, 0x13, 0x14, 0, 0])


def test_where_nothing_is_all_is_ones(world: World) -> None:
    assert world.access_port(IN, 4, 1, bytes(4), port=0x900) == b"\xff" * 4


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_memory_mapped_registers(world: World, size: int) -> None:
    access = world.shared.mmio
    access.phys_addr, access.len, access.is_write = ADDRESS + 8, size, 1
    access.data = bytes(range(1, 9))
    world.serve(0, ExitReason.KVM_EXIT_MMIO)
    assert world.device.written == [(8, size, int.from_bytes(bytes(range(1, size + 1)), "little"))]
    access.is_write = 0
    world.serve(0, ExitReason.KVM_EXIT_MMIO)
    assert bytes(access.data)[:size] == (0x1122334455667712).to_bytes(8, "little")[:size]
    assert bytes(access.data)[size:] == bytes(range(size + 1, 9))


def test_three_faults_in_a_row_are_the_machines_affair(world: World) -> None:
    world.serve(0, ExitReason.KVM_EXIT_SHUTDOWN)
    assert world.falls == 1


def test_what_cannot_be_answered_says_what_it_is(world: World) -> None:
    world.shared.exit_reason = ExitReason.KVM_EXIT_FAIL_ENTRY
    world.shared.fail_entry.hardware_entry_failure_reason = 0x21
    with pytest.raises(MachineError, match="KVM_EXIT_FAIL_ENTRY: the processor says 0x21"):
        world.serve(0, ExitReason.KVM_EXIT_FAIL_ENTRY)
