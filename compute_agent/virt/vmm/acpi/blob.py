"""Bytes that become right when it is known where they will lie: pointers and checksums are settled then.

A machine without firmware has them settled here, one with firmware by the firmware: hence both ways are the same two
operations, those of QEMU's "etc/table-loader".
"""

from __future__ import annotations

import msgspec

_ALIGNMENT = 16


class Pointer(msgspec.Struct, frozen=True):
    """Holds an offset into the tables, which their address is to be added to."""

    offset: int
    size: int


class Checksum(msgspec.Struct, frozen=True):
    """A byte that makes the sum of `length` bytes zero."""

    offset: int
    start: int
    length: int


class Blob(msgspec.Struct):
    """Grows at its end; offsets count from its beginning."""

    content: bytearray = msgspec.field(default_factory=bytearray)
    pointers: list[Pointer] = msgspec.field(default_factory=list)
    checksums: list[Checksum] = msgspec.field(default_factory=list)

    def append(self, part: bytes, alignment: int = _ALIGNMENT) -> int:
        """Where it begins."""
        self.content += bytes(-len(self.content) % alignment)
        start = len(self.content)
        self.content += part
        return start

    def point(self, offset: int, size: int) -> None:
        """What is there is an offset into the tables."""
        self.pointers.append(Pointer(offset, size))

    def sum(self, offset: int, start: int, length: int) -> None:
        """What is there, zero now, is a checksum."""
        self.checksums.append(Checksum(offset, start, length))

    def at(self, tables: int) -> bytes:
        """As it is to be if the tables lie at this address."""
        content = bytearray(self.content)
        for one in self.pointers:
            place = slice(one.offset, one.offset + one.size)
            content[place] = (int.from_bytes(content[place], "little") + tables).to_bytes(one.size, "little")
        for one_sum in self.checksums:
            content[one_sum.offset] = -sum(content[one_sum.start : one_sum.start + one_sum.length]) & 0xFF
        return bytes(content)
