"""What a Linux kernel is told at its 64-bit entry, without any firmware.

Source: Linux's Documentation/arch/x86/boot.rst ("64-bit Boot Protocol") and zero-page.rst.
"""

from __future__ import annotations

import struct

from compute_agent.virt.kvm.long_mode import identity_map
from compute_agent.virt.vmm.boot.contents import Ramdisk, memory_map
from compute_agent.virt.vmm.boot.layout import ACPI, BOOT_PARAMS, COMMAND_LINE, MAPPED, PAGE, PAGE_TABLES
from compute_agent.virt.vmm.memory import GuestRam

_OWN_LOADER, _LOADED_HIGH = 0xFF, 0x01
_E820_ENTRY = struct.Struct("<QQI")
_AT = {
    "acpi_rsdp_addr": ("<Q", 0x070),
    "e820_entries": ("<B", 0x1E8),
    "header": ("<4s", 0x202),
    "type_of_loader": ("<B", 0x210),
    "loadflags": ("<B", 0x211),
    "ramdisk_image": ("<I", 0x218),
    "ramdisk_size": ("<I", 0x21C),
    "cmd_line_ptr": ("<I", 0x228),
}
_HEADER, _E820_TABLE = 0x1F1, 0x2D0


def write_boot_params(ram: GuestRam, header: bytes, ramdisk: Ramdisk) -> None:
    """At `layout.BOOT_PARAMS`, to which RSI points; and page tables, at `layout.PAGE_TABLES`.

    The kernel is told that the tables of ACPI begin at the beginning of `layout.ACPI`.

    :param header: the setup header of the kernel's file, if it has one.
    """
    ram.write(BOOT_PARAMS, _boot_params(ram, header, ramdisk))
    ram.write(PAGE_TABLES, identity_map(MAPPED, PAGE_TABLES))


def _boot_params(ram: GuestRam, header: bytes, ramdisk: Ramdisk) -> bytes:
    params = bytearray(PAGE)
    params[_HEADER : _HEADER + len(header)] = header
    pieces = memory_map(ram)
    values = {
        "acpi_rsdp_addr": ACPI.start,
        "e820_entries": len(pieces),
        "header": b"HdrS",
        "type_of_loader": _OWN_LOADER,
        "loadflags": params[_AT["loadflags"][1]] | _LOADED_HIGH,
        "ramdisk_image": ramdisk.address,
        "ramdisk_size": ramdisk.size,
        "cmd_line_ptr": COMMAND_LINE,
    }
    for name, value in values.items():
        layout, offset = _AT[name]
        struct.pack_into(layout, params, offset, value)
    for place, (addresses, kind) in enumerate(pieces):
        at = _E820_TABLE + place * _E820_ENTRY.size
        _E820_ENTRY.pack_into(params, at, addresses.start, len(addresses), kind)
    return bytes(params)
