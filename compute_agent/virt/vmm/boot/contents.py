"""What is in a guest's memory before its first instruction, whatever its kernel is told about it."""

from __future__ import annotations

import os

import msgspec

from compute_agent.errors import InsufficientResources, InvalidImage
from compute_agent.virt.vmm.boot.bzimage import BzImage
from compute_agent.virt.vmm.boot.elf import MAGIC, ElfKernel
from compute_agent.virt.vmm.boot.layout import ACPI, COMMAND_LINE, HIGH_MEMORY, LOW_MEMORY, MAPPED, PAGE
from compute_agent.virt.vmm.memory import GuestRam

Kernel = BzImage | ElfKernel
RAM, RESERVED = 1, 2
"""Kinds of addresses, as all BIOSes and kernels have them."""
_LONGEST_COMMAND_LINE = LOW_MEMORY.stop - COMMAND_LINE - 1


class Ramdisk(msgspec.Struct, frozen=True):
    """Where it is; all zeros where there is none."""

    address: int = 0
    size: int = 0


def examine_kernel(file: int) -> Kernel:
    """:raises InvalidImage: of ``kernel``: it is none that can be started, or truncated."""
    return ElfKernel.examine(file) if os.pread(file, len(MAGIC), 0) == MAGIC else BzImage.examine(file)


def load_contents(ram: GuestRam, kernel: Kernel, ramdisk: int | None, command_line: str) -> Ramdisk:
    """Put kernel, ramdisk (an open file) and the command line, at `layout.COMMAND_LINE`, into the guest's memory.

    :raises InvalidImage: of ``kernel``, ``ramdisk`` or ``command_line``: it does not fit into its place.
    :raises InsufficientResources: the guest has too little memory for them.
    """
    if kernel.end > MAPPED:
        raise InvalidImage("kernel", hex(kernel.end), "wants to be loaded beyond the first GiB")
    _require_memory(ram, kernel.end, "kernel")
    kernel.load(ram)
    placed = _load_ramdisk(ram, kernel, ramdisk) if ramdisk is not None else Ramdisk()
    ram.write(COMMAND_LINE, _encoded(command_line, kernel))
    return placed


def memory_map(ram: GuestRam) -> list[tuple[range, int]]:
    """Which addresses are `RAM`, and which are `RESERVED` for the tables of ACPI."""
    low, *high = (region.guest_addresses for region in ram.regions)
    usable = [LOW_MEMORY, range(HIGH_MEMORY, low.stop), *high]
    return [*((addresses, RAM) for addresses in usable), (ACPI, RESERVED)]


def _load_ramdisk(ram: GuestRam, kernel: Kernel, ramdisk: int) -> Ramdisk:
    """As high as it may be, so that what the kernel unpacks does not meet it."""
    size = os.fstat(ramdisk).st_size
    highest = min(ram.regions[0].size, kernel.initrd_addr_max + 1)
    address = (highest - size) // PAGE * PAGE
    if address < kernel.end:
        _require_memory(ram, kernel.end + size, "ramdisk")
        raise InvalidImage("ramdisk", size, f"the kernel takes one of {max(0, highest - kernel.end)} bytes at most")
    ram.fill_from(ramdisk, 0, size, address)
    return Ramdisk(address, size)


def _require_memory(ram: GuestRam, end: int, what: str) -> None:
    if end > ram.regions[0].size:
        raise InsufficientResources(f"the {what} needs a guest of {-(-end >> 20)} MiB, this one has {ram.size >> 20}")


def _encoded(command_line: str, kernel: Kernel) -> bytes:
    encoded = command_line.encode()
    longest = min(kernel.cmdline_size, _LONGEST_COMMAND_LINE)
    if len(encoded) > longest or b"\0" in encoded:
        raise InvalidImage("command_line", command_line, f"is not text of at most {longest} bytes")
    return encoded + b"\0"
