"""A machine that boots from a disk: its firmware, which finds it by itself.

Sources: Intel 82371SB (PIIX3) data sheet (where the firmware's memory is); QEMU's docs/specs/fw_cfg.rst.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence

from compute_agent.errors import InvalidImage
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.vmm.acpi.loader import acpi_files
from compute_agent.virt.vmm.fw_cfg import boot_order, memory_map
from compute_agent.virt.vmm.memory import GuestRam

_END = 1 << 32
"""Of its place, where processors begin."""
_LOW_END, _LOW_SIZE = 1 << 20, 128 * 1024
"""Where it is found as well, until it has copied itself there."""
_LARGEST = 4 * 1024**2
_CONSOLE = struct.pack("<H", 0x3F8)
"""The port on which it shows what would be on a screen, such as that there is nothing to boot."""


class Firmware:
    """A file's content in memory of its own, which the guest may only read.

    :raises InvalidImage: of ``firmware``: the file has no size that one can have.
    """

    def __init__(self, file: int) -> None:
        self.size = os.fstat(file).st_size
        if not 0 < self.size <= _LARGEST or self.size % mmap.PAGESIZE:
            raise InvalidImage("firmware", self.size, f"not whole pages, at most {_LARGEST >> 20} MiB")
        self._content = mmap.mmap(file, self.size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)

    @property
    def address(self) -> int:
        """Where the guest sees all of it."""
        return _END - self.size

    @property
    def host_address(self) -> int:
        """Where it is in our own address space."""
        return int(ffi.cast("uintptr_t", ffi.from_buffer(self._content)))

    def copy_low(self, ram: GuestRam) -> None:
        """As it is after each reset."""
        size = min(self.size, _LOW_SIZE)
        ram.write(_LOW_END - size, self._content[self.size - size :])


def firmware_files(ram: GuestRam, processors: int, boot_slots: Sequence[int]) -> dict[str, bytes]:
    """What SeaBIOS asks for; `boot_slots`: of disks, the one to be tried first at the beginning."""
    return {
        "etc/e820": memory_map(ram),
        "etc/sercon-port": _CONSOLE,
        "bootorder": boot_order(boot_slots),
        **acpi_files(processors),
    }
