from __future__ import annotations

import struct

import pytest

from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.long_mode import enter_long_mode, identity_map

TABLES = 0x7000


def translate(memory: bytes, address: int) -> int | None:
    """As the processor walks the tables; None: a page fault."""
    table = TABLES
    for shift in (39, 30, 21):
        (entry,) = struct.unpack_from("<Q", memory, table + 8 * (address >> shift & 511))
        if not entry & 1:
            return None
        table = entry & ~0xFFF
        if entry & 0x80:
            return int(table | address & ((1 << shift) - 1))
    raise AssertionError("a small page")


@pytest.mark.parametrize("size", [2 << 20, 5 << 20, 1 << 30])
def test_memory_is_mapped_to_itself_and_nothing_else(size: int) -> None:
    memory = bytes(TABLES) + identity_map(size, TABLES)
    for address in (0, 0x1234, size // 2 + 5, size - 1):
        assert translate(memory, address) == address
    beyond = -(-size // (2 << 20)) * (2 << 20)
    assert translate(memory, beyond) is None
    assert translate(memory, 1 << 39) is None


def test_tables_are_three_pages() -> None:
    assert len(identity_map(1 << 30, TABLES)) == 3 * 4096


def test_the_processor_is_in_long_mode() -> None:
    registers = ffi.new("struct kvm_sregs *", {"tr": {"type": 11, "present": 1}})
    enter_long_mode(registers, TABLES)
    assert registers.cr3 == TABLES
    assert registers.cr0 & 0x80000001 == 0x80000001
    assert registers.cr4 & 1 << 5
    assert registers.efer == 0x500
    assert (registers.cs.type, registers.cs.l, registers.cs.db) == (11, 1, 0)
    assert (registers.ss.type, registers.ss.l, registers.ss.db) == (3, 0, 1)
    assert (registers.tr.type, registers.tr.present) == (11, 1)
