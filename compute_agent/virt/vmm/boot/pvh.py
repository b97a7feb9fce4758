"""What a kernel is told at its 32-bit PVH entry, which Xen and QEMU use as well.

Source: Xen's public/arch-x86/hvm/start_info.h and docs/misc/pvh.pandoc.
"""

from __future__ import annotations

import struct

from compute_agent.virt.vmm.boot.contents import Ramdisk, memory_map
from compute_agent.virt.vmm.boot.layout import ACPI, COMMAND_LINE, START_INFO
from compute_agent.virt.vmm.memory import GuestRam

_MAGIC, _VERSION = 0x336EC578, 1
_START_INFO = struct.Struct("<IIIIQQQQII")
_MODULE = struct.Struct("<QQQQ")
_MEMORY = struct.Struct("<QQII")


def write_start_info(ram: GuestRam, ramdisk: Ramdisk) -> None:
    """At `layout.START_INFO`, to which EBX points; modules and memory map are behind it."""
    modules = [_MODULE.pack(ramdisk.address, ramdisk.size, 0, 0)] if ramdisk.size else []
    memory = [_MEMORY.pack(addresses.start, len(addresses), kind, 0) for addresses, kind in memory_map(ram)]
    first_module = START_INFO + _START_INFO.size
    first_piece = first_module + len(modules) * _MODULE.size
    start_info = _START_INFO.pack(
        _MAGIC, _VERSION, 0, len(modules), first_module, COMMAND_LINE, ACPI.start, first_piece, len(memory), 0
    )
    ram.write(START_INFO, b"".join([start_info, *modules, *memory]))
