"""A kernel as an ELF file (``vmlinux``), looked at before anything is done with it.

Sources: System V ABI, chapters 4 and 5; Xen's public/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Self

import msgspec

from compute_agent.errors import InvalidImage
from compute_agent.virt.vmm.boot.layout import HIGH_MEMORY
from compute_agent.virt.vmm.memory import GuestRam

MAGIC = b"\x7fELF"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT_HEADER = struct.Struct("<IIQQQQQQ")
_64_BIT_LITTLE_ENDIAN, _X86_64 = b"\x02\x01", 62
_LOAD, _NOTE = 1, 4
_LONGEST = 64 * 1024
_NOTE_HEADER = struct.Struct("<III")
_XEN, _PHYS32_ENTRY = b"Xen\0", 18


class Segment(msgspec.Struct, frozen=True):
    """A piece of the file and its place in the guest's memory; sizes in bytes."""

    offset: int
    virtual_address: int
    address: int
    size: int
    size_in_memory: int
    """The rest is zeros."""

    @property
    def addresses(self) -> range:
        """All of it."""
        return range(self.address, self.address + self.size_in_memory)


class ElfKernel(msgspec.Struct, frozen=True):
    """An open file that has been found fit."""

    file: int
    segments: Sequence[Segment]
    entry: int
    has_pvh_entry: bool
    """`entry` is that of 32-bit code which asks for Xen's start info; else Linux's for 64 bits."""

    header = b""
    """A kernel without its setup code has no setup header."""
    initrd_addr_max = 0x7FFFFFFF
    cmdline_size = 2047
    """Linux's COMMAND_LINE_SIZE, without the zero."""

    @classmethod
    def examine(cls, file: int) -> Self:
        """:raises InvalidImage: of ``kernel``: it is none, not for this kind of machine, or truncated."""
        there = os.fstat(file).st_size
        entry, table = _read_header(file)
        headers = list(_SEGMENT_HEADER.iter_unpack(_read(file, there, *table)))
        segments = [Segment(*values) for kind, _, *values, _ in headers if kind == _LOAD]
        notes = b"".join(
            _read(file, there, offset, size) for kind, _, offset, _, _, size, *_ in headers if kind == _NOTE
        )
        for segment in segments:
            _check(segment, there)
        pvh_entry = _find_pvh_entry(notes)
        if pvh_entry is None:  # a program has one address only: Linux has another one for its virtual memory
            begins = [segment for segment in segments if segment.address != segment.virtual_address]
        else:
            entry, begins = pvh_entry, segments
        if not any(entry in segment.addresses for segment in begins):
            raise _unfit(hex(entry), "an ELF file, but no kernel: that is not where one begins")
        return cls(file, segments, entry, pvh_entry is not None)

    @property
    def end(self) -> int:
        """The first address behind all of it."""
        return max(segment.addresses.stop for segment in self.segments)

    def load(self, ram: GuestRam) -> None:
        """Put it where it belongs; there is memory up to its `end`."""
        for segment in self.segments:
            ram.fill_from(self.file, segment.offset, segment.size, segment.address)
            ram.clear(segment.address + segment.size, segment.size_in_memory - segment.size)


def _read_header(file: int) -> tuple[int, tuple[int, int]]:
    """The entry; offset and size of the segments' headers."""
    head = os.pread(file, _HEADER.size, 0)
    if len(head) < _HEADER.size or not head.startswith(MAGIC):
        raise _unfit(head[: len(MAGIC)], "not an ELF file")
    identity, _, machine, _, entry, table, _, _, _, size, count, *_ = _HEADER.unpack(head)
    if (identity[4:6], machine, size) != (_64_BIT_LITTLE_ENDIAN, _X86_64, _SEGMENT_HEADER.size):
        raise _unfit(machine, "an ELF file for another kind of machine")
    return entry, (table, count * size)


def _check(segment: Segment, there: int) -> None:
    if segment.offset + segment.size > there:
        raise _unfit(there, f"truncated: {segment.offset + segment.size} bytes are needed")
    if segment.size > segment.size_in_memory or segment.address < HIGH_MEMORY:
        raise _unfit(hex(segment.address), f"an ELF file, but no kernel: one is loaded from {HIGH_MEMORY:#x} on")


def _read(file: int, there: int, offset: int, size: int) -> bytes:
    """Of headers and notes."""
    if size > _LONGEST:
        raise _unfit(size, f"headers and notes of at most {_LONGEST} bytes are read")
    if offset + size > there:
        raise _unfit(there, f"truncated: {offset + size} bytes are needed")
    return os.pread(file, size, offset)


def _find_pvh_entry(notes: bytes) -> int | None:
    place = 0
    while place + _NOTE_HEADER.size <= len(notes):
        name_size, size, kind = _NOTE_HEADER.unpack_from(notes, place)
        name = place + _NOTE_HEADER.size
        content = name + _aligned(name_size)
        if (notes[name : name + name_size], kind) == (_XEN, _PHYS32_ENTRY):
            return int.from_bytes(notes[content : content + size], "little")
        place = content + _aligned(size)
    return None


def _aligned(size: int) -> int:
    return -(-size // 4) * 4


def _unfit(found: object, reason: str) -> InvalidImage:
    return InvalidImage("kernel", found, reason)
