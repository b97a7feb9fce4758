"""The configuration space of a function: 256 bytes, some of which the guest may write.

Source: PCI Local Bus Specification 3.0, 6.1 (header type 0) and 6.7 (capabilities).
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

SIZE = 256
_FIRST_CAPABILITY = 0x40
_HAS_CAPABILITIES = 0x10


class Header(IntEnum):
    """Where the header's fields are."""

    VENDOR = 0x00
    DEVICE = 0x02
    COMMAND = 0x04
    STATUS = 0x06
    CLASS_AND_REVISION = 0x08
    CACHE_LINE = 0x0C
    BARS = 0x10
    SUBSYSTEM_VENDOR = 0x2C
    SUBSYSTEM = 0x2E
    CAPABILITIES = 0x34
    INTERRUPT_LINE = 0x3C


class Command(IntEnum):
    """Bits of `Header.COMMAND` that a function of ours knows."""

    MEMORY = 0x002
    BUS_MASTER = 0x004
    NO_INTERRUPT_PIN = 0x400


class Identity(msgspec.Struct, frozen=True):
    """What a guest's drivers look for; `kind` is class, subclass and programming interface, 24 bits."""

    vendor: int
    device: int
    kind: int
    revision: int
    subsystem_vendor: int
    subsystem: int


class Configuration:
    """Its bytes; what is not writable keeps its value whatever the guest writes."""

    def __init__(self, identity: Identity) -> None:
        self.content = bytearray(SIZE)
        self._writable = bytearray(SIZE)
        self._free = _FIRST_CAPABILITY
        self._last_link: int = Header.CAPABILITIES
        self.set(Header.VENDOR, 2, identity.vendor)
        self.set(Header.DEVICE, 2, identity.device)
        self.set(Header.CLASS_AND_REVISION, 4, identity.kind << 8 | identity.revision)
        self.set(Header.SUBSYSTEM_VENDOR, 2, identity.subsystem_vendor)
        self.set(Header.SUBSYSTEM, 2, identity.subsystem)
        self.allow(Header.COMMAND, 2, Command.MEMORY | Command.BUS_MASTER | Command.NO_INTERRUPT_PIN)
        self.allow(Header.CACHE_LINE, 1, 0xFF)
        self.allow(Header.INTERRUPT_LINE, 1, 0xFF)

    def get(self, offset: int, size: int) -> int:
        """Zeros beyond the end."""
        return int.from_bytes(self.content[offset : offset + size], "little")

    def set(self, offset: int, size: int, value: int) -> None:
        """What the function says itself."""
        self.content[offset : offset + size] = value.to_bytes(size, "little")

    def allow(self, offset: int, size: int, mask: int) -> None:
        """Let the guest write the bits of `mask`."""
        self._writable[offset : offset + size] = mask.to_bytes(size, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """What the guest writes."""
        for place, byte in enumerate(value.to_bytes(size, "little"), offset):
            if place < SIZE:
                mask = self._writable[place]
                self.content[place] = self.content[place] & ~mask | byte & mask

    def add_capability(self, kind: int, body: bytes) -> int:
        """Where it is; `body` begins after the pointer to the next one. None of it is writable yet."""
        start, content = self._free, bytes([kind, 0]) + body
        self.content[start : start + len(content)] = content
        self.content[self._last_link] = start
        self._last_link, self._free = start + 1, start + len(content) + -len(content) % 4
        self.set(Header.STATUS, 2, self.get(Header.STATUS, 2) | _HAS_CAPABILITIES)
        return start
