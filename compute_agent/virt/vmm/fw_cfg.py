"""How firmware asks its machine for tables and settings: named files, byte by byte or by DMA.

Source: QEMU's docs/specs/fw_cfg.rst. SeaBIOS knows no other way.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

import msgspec

from compute_agent.errors import BadGuestAddress
from compute_agent.virt.vmm.memory import GuestRam

PORTS = range(0x510, 0x51C)
_SIGNATURE = b"QEMU CFG"
_DIRECTORY_ENTRY = struct.Struct(">IHH56s")
_FIRST_FILE = 0x20
_DMA_REQUEST = struct.Struct(">IIQ")
_LONGEST = 16 * 1024**2
"""Bytes of one transfer: more than any file has, and little enough to do at once."""
_E820_ENTRY = struct.Struct("<QQI")
_RAM = 1


class _Register(IntEnum):
    """Offsets from the first port."""

    SELECT = 0
    DATA = 1
    DMA_HIGH = 4
    DMA_LOW = 8


class _Item(IntEnum):
    """Those without a name."""

    SIGNATURE = 0x00
    INTERFACES = 0x01
    RAM_SIZE = 0x03
    PROCESSORS = 0x05
    MOST_PROCESSORS = 0x0F
    DIRECTORY = 0x19


class _Control(IntFlag):
    """Of a DMA request."""

    ERROR = 0x01
    READ = 0x02
    SKIP = 0x04
    SELECT = 0x08
    WRITE = 0x10


class FwCfgState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    selected: int
    position: int
    high: int


class FwCfg:
    """Nothing in it can be written."""

    def __init__(self, ram: GuestRam, processors: int, files: Mapping[str, bytes]) -> None:
        self._ram = ram
        self._selected = self._position = self._high = 0
        self._items = {
            _Item.SIGNATURE: b"QEMU",
            _Item.INTERFACES: struct.pack("<I", 3),  # both
            _Item.RAM_SIZE: struct.pack("<Q", ram.size),
            _Item.PROCESSORS: struct.pack("<H", processors),
            _Item.MOST_PROCESSORS: struct.pack("<H", processors),
            _Item.DIRECTORY: _directory(files),
            **{_FIRST_FILE + number: content for number, content in enumerate(files.values())},
        }

    def read(self, offset: int, size: int) -> int:
        if offset == _Register.DATA:
            return int.from_bytes(self._take(size), "little")
        if offset >= _Register.DMA_HIGH:
            return int.from_bytes(_SIGNATURE[offset - _Register.DMA_HIGH :][:size], "little")
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == _Register.SELECT and size == 2:
            self._selected, self._position = value, 0
        elif offset == _Register.DMA_HIGH and size == 4:
            self._high = _swapped(value)
        elif offset == _Register.DMA_LOW and size == 4:
            address, self._high = self._high << 32 | _swapped(value), 0
            self._transfer(address)

    def state(self) -> FwCfgState:
        return FwCfgState(self._selected, self._position, self._high)

    def restore(self, state: FwCfgState) -> None:
        self._selected, self._position, self._high = state.selected, state.position, state.high

    def _take(self, length: int) -> bytes:
        """Zeros beyond the end."""
        content = self._items.get(self._selected, b"")
        taken = content[self._position : self._position + length]
        self._position = min(self._position + length, len(content))
        return taken.ljust(length, b"\0")

    def _transfer(self, request: int) -> None:
        """A request that is not in memory cannot even be answered."""
        try:
            control, length, address = _DMA_REQUEST.unpack(self._ram.read(request, _DMA_REQUEST.size))
            self._ram.write(request, struct.pack(">I", self._obey(control, length, address)))
        except BadGuestAddress:
            return

    def _obey(self, control: int, length: int, address: int) -> int:
        """What the request's first field says when it is done."""
        if control & _Control.SELECT:
            self._selected, self._position = control >> 16, 0
        if control & _Control.READ and length <= _LONGEST:
            try:
                self._ram.write(address, self._take(length))
            except BadGuestAddress:
                return _Control.ERROR
        elif control & _Control.SKIP and length <= _LONGEST:
            self._take(length)
        elif control & (_Control.READ | _Control.SKIP | _Control.WRITE):
            return _Control.ERROR
        return 0


def memory_map(ram: GuestRam) -> bytes:
    """The file ``etc/e820``: what of the guest's addresses is RAM."""
    return b"".join(_E820_ENTRY.pack(region.guest_address, region.size, _RAM) for region in ram.regions)


def boot_order(slots: Sequence[int]) -> bytes:
    """The file ``bootorder``: disks by their slots on the bus, the first one first."""
    return b"".join(f"/pci@i0cf8/scsi@{slot:x}\n".encode() for slot in slots)


def _directory(files: Mapping[str, bytes]) -> bytes:
    entries = [
        _DIRECTORY_ENTRY.pack(len(content), _FIRST_FILE + number, 0, name.encode())
        for number, (name, content) in enumerate(files.items())
    ]
    return struct.pack(">I", len(entries)) + b"".join(entries)


def _swapped(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")
