"""What a device occupies, as its ``_CRS`` says it.

Source: ACPI 6.4, 6.4.2 (small resource descriptors) and 6.4.3 (large ones).
"""

from __future__ import annotations

import struct

from compute_agent.virt.vmm.acpi import aml

_END = b"\x79\x00"
_INTERRUPT, _PORTS, _FIXED_MEMORY, _DWORD_SPACE, _WORD_SPACE = 0x22, 0x47, 0x86, 0x87, 0x88
_DECODES_16_BITS = 1
_WRITABLE = 1
_MEMORY_KIND, _PORT_KIND, _BUS_KIND = 0, 1, 2
_FIXED_BOUNDS = 0x0C
_ALL_PORTS = 3
"""Neither only those of ISA nor only the others."""


def resources(*descriptors: bytes) -> bytes:
    """``Name (_CRS, …)``"""
    return aml.name("_CRS", b"".join(descriptors) + _END)


def own_ports(addresses: range) -> bytes:
    """The device's own."""
    return struct.pack("<BBHHBB", _PORTS, _DECODES_16_BITS, addresses.start, addresses.start, 1, len(addresses))


def interrupt(number: int) -> bytes:
    """One of ISA's: an edge."""
    return struct.pack("<BH", _INTERRUPT, 1 << number)


def memory(addresses: range) -> bytes:
    """The device's own."""
    return struct.pack("<BHBII", _FIXED_MEMORY, 9, _WRITABLE, addresses.start, len(addresses))


def bus_window(numbers: range) -> bytes:
    """What a bridge gives to buses below it."""
    return _window("<BHBBBHHHHH", _WORD_SPACE, _BUS_KIND, 0, numbers)


def port_window(addresses: range) -> bytes:
    """What a bridge gives to devices below it."""
    return _window("<BHBBBHHHHH", _WORD_SPACE, _PORT_KIND, _ALL_PORTS, addresses)


def memory_window(addresses: range) -> bytes:
    """What a bridge gives to devices below it."""
    return _window("<BHBBBIIIII", _DWORD_SPACE, _MEMORY_KIND, _WRITABLE, addresses)


def _window(layout: str, descriptor: int, kind: int, flags: int, values: range) -> bytes:
    length, last = struct.calcsize(layout) - 3, values.stop - 1
    bounds = (0, values.start, last, 0, len(values))
    return struct.pack(layout, descriptor, length, kind, _FIXED_BOUNDS, flags, *bounds)
