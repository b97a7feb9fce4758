"""Loading a Linux kernel for its 64-bit entry, without any firmware.

Source: Linux's Documentation/arch/x86/boot.rst ("64-bit Boot Protocol") and zero-page.rst.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from compute_agent.errors import InsufficientResources, InvalidImage
from compute_agent.virt.kvm.long_mode import identity_map
from compute_agent.virt.vmm.boot.bzimage import BzImage
from compute_agent.virt.vmm.boot.layout import (
    ACPI,
    BOOT_PARAMS,
    COMMAND_LINE,
    HIGH_MEMORY,
    LOW_MEMORY,
    MAPPED,
    PAGE,
    PAGE_TABLES,
)
from compute_agent.virt.vmm.memory import GuestRam

_ENTRY = 0x200
"""Of the 64-bit entry, from where the kernel proper begins."""
_OWN_LOADER, _LOADED_HIGH = 0xFF, 0x01
_LONGEST_COMMAND_LINE = LOW_MEMORY.stop - COMMAND_LINE - 1
_RAM, _RESERVED = 1, 2
_E820_ENTRY = struct.Struct("<QQI")
_AT = {
    "acpi_rsdp_addr": ("<Q", 0x070),
    "e820_entries": ("<B", 0x1E8),
    "type_of_loader": ("<B", 0x210),
    "loadflags": ("<B", 0x211),
    "ramdisk_image": ("<I", 0x218),
    "ramdisk_size": ("<I", 0x21C),
    "cmd_line_ptr": ("<I", 0x228),
}
_HEADER, _E820_TABLE = 0x1F1, 0x2D0


@dataclass(frozen=True, slots=True)
class LoadedKernel:
    """Where the first processor begins, in long mode, with `boot_params` in RSI."""

    entry: int
    boot_params: int = BOOT_PARAMS
    page_tables: int = PAGE_TABLES


def load_linux(ram: GuestRam, kernel: BzImage, ramdisk: int | None, command_line: str) -> LoadedKernel:
    """Put it all into the guest's memory; `ramdisk` is an open file.

    The kernel is told that the tables of ACPI begin at the beginning of `layout.ACPI`.

    :raises InvalidImage: of ``kernel``, ``ramdisk`` or ``command_line``: it does not fit into its place.
    :raises InsufficientResources: the guest has too little memory for them.
    """
    end = kernel.pref_address + max(kernel.init_size, kernel.size)
    if kernel.pref_address + kernel.size > MAPPED:
        raise InvalidImage("kernel", hex(kernel.pref_address), "wants to be loaded beyond the first GiB")
    _require_memory(ram, end, "kernel")
    ram.fill_from(kernel.file, kernel.setup_size, kernel.size, kernel.pref_address)
    address, size = _load_ramdisk(ram, kernel, ramdisk, end) if ramdisk is not None else (0, 0)
    ram.write(COMMAND_LINE, _encoded(command_line, kernel))
    ram.write(BOOT_PARAMS, _boot_params(ram, kernel, address, size))
    ram.write(PAGE_TABLES, identity_map(MAPPED, PAGE_TABLES))
    return LoadedKernel(kernel.pref_address + _ENTRY)


def _load_ramdisk(ram: GuestRam, kernel: BzImage, ramdisk: int, lowest: int) -> tuple[int, int]:
    """As high as it may be, so that what the kernel unpacks does not meet it; address and size."""
    size = os.fstat(ramdisk).st_size
    highest = min(ram.regions[0].size, kernel.initrd_addr_max + 1)
    address = (highest - size) // PAGE * PAGE
    if address < lowest:
        _require_memory(ram, lowest + size, "ramdisk")
        raise InvalidImage("ramdisk", size, f"the kernel takes one of {max(0, highest - lowest)} bytes at most")
    ram.fill_from(ramdisk, 0, size, address)
    return address, size


def _require_memory(ram: GuestRam, end: int, what: str) -> None:
    if end > ram.regions[0].size:
        raise InsufficientResources(f"the {what} needs a guest of {-(-end >> 20)} MiB, this one has {ram.size >> 20}")


def _encoded(command_line: str, kernel: BzImage) -> bytes:
    encoded = command_line.encode()
    longest = min(kernel.cmdline_size, _LONGEST_COMMAND_LINE)
    if len(encoded) > longest or b"\0" in encoded:
        raise InvalidImage("command_line", command_line, f"is not text of at most {longest} bytes")
    return encoded + b"\0"


def _boot_params(ram: GuestRam, kernel: BzImage, ramdisk: int, ramdisk_size: int) -> bytes:
    params = bytearray(PAGE)
    params[_HEADER : _HEADER + len(kernel.header)] = kernel.header
    memory_map = _memory_map(ram)
    values = {
        "acpi_rsdp_addr": ACPI.start,
        "e820_entries": len(memory_map),
        "type_of_loader": _OWN_LOADER,
        "loadflags": params[_AT["loadflags"][1]] | _LOADED_HIGH,
        "ramdisk_image": ramdisk,
        "ramdisk_size": ramdisk_size,
        "cmd_line_ptr": COMMAND_LINE,
    }
    for name, value in values.items():
        layout, offset = _AT[name]
        struct.pack_into(layout, params, offset, value)
    for place, (addresses, kind) in enumerate(memory_map):
        at = _E820_TABLE + place * _E820_ENTRY.size
        _E820_ENTRY.pack_into(params, at, addresses.start, len(addresses), kind)
    return bytes(params)


def _memory_map(ram: GuestRam) -> list[tuple[range, int]]:
    low, *high = (region.guest_addresses for region in ram.regions)
    usable = [LOW_MEMORY, range(HIGH_MEMORY, low.stop), *high]
    return [*((addresses, _RAM) for addresses in usable), (ACPI, _RESERVED)]
