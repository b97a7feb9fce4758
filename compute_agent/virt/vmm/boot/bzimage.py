"""The file of a Linux kernel as distributions ship it, looked at before anything is done with it.

Source: Linux's Documentation/arch/x86/boot.rst; fields have the kernel's names.
"""

from __future__ import annotations

import os
import struct
from typing import Self

import msgspec

from compute_agent.errors import InvalidImage
from compute_agent.virt.vmm.memory import GuestRam

_SECTOR, _PARAGRAPH = 512, 16
_FIELDS = {
    "setup_sects": ("<B", 0x1F1),
    "syssize": ("<I", 0x1F4),
    "jump": ("<B", 0x201),
    "version": ("<H", 0x206),
    "initrd_addr_max": ("<I", 0x22C),
    "xloadflags": ("<H", 0x236),
    "cmdline_size": ("<I", 0x238),
    "pref_address": ("<Q", 0x258),
    "init_size": ("<I", 0x260),
}
_HEADER, _AFTER_JUMP = 0x1F1, 0x202
_MAGIC = slice(0x202, 0x206)
_LEAST = 0x264
_OLDEST = 0x20C
"""Protocol 2.12, of Linux 3.8: the first that tells whether there is a 64-bit entry."""
_XLF_KERNEL_64 = 1
_ENTRY = 0x200
"""Of the 64-bit entry, from where the kernel proper begins."""


class BzImage(msgspec.Struct, frozen=True):
    """An open file that has been found fit. Sizes and addresses in bytes."""

    file: int
    header: bytes
    """The setup header, as it is to be among the boot parameters."""
    setup_size: int
    """Of what comes before the kernel proper."""
    size: int
    """Of the kernel proper."""
    initrd_addr_max: int
    cmdline_size: int
    """Without the zero at the end."""
    pref_address: int
    init_size: int
    """What it takes from `pref_address` on while it unpacks itself."""

    @classmethod
    def examine(cls, file: int) -> Self:
        """:raises InvalidImage: of ``kernel``: it is none, too old, not for 64 bits, or truncated."""
        head = os.pread(file, 2 * _SECTOR, 0)
        if len(head) < _LEAST or head[_MAGIC] != b"HdrS":
            raise _unfit(head[_MAGIC], "not a Linux kernel (bzImage)")
        if (version := _field(head, "version")) < _OLDEST:
            raise _unfit(f"boot protocol {version >> 8}.{version & 0xFF}", "too old: 2.12 is needed")
        if not _field(head, "xloadflags") & _XLF_KERNEL_64:
            raise _unfit(hex(_field(head, "xloadflags")), "has no 64-bit entry")
        setup_size, size = (_field(head, "setup_sects") + 1) * _SECTOR, _field(head, "syssize") * _PARAGRAPH
        if (there := os.fstat(file).st_size) < setup_size + size:
            raise _unfit(there, f"truncated: {setup_size + size} bytes are needed")
        return cls(
            file=file,
            header=head[_HEADER : _AFTER_JUMP + _field(head, "jump")],
            setup_size=setup_size,
            size=size,
            **{name: _field(head, name) for name in ("initrd_addr_max", "cmdline_size", "pref_address", "init_size")},
        )

    @property
    def entry(self) -> int:
        """Where 64-bit code begins."""
        return self.pref_address + _ENTRY

    @property
    def end(self) -> int:
        """The first address behind what it takes."""
        return self.pref_address + max(self.init_size, self.size)

    def load(self, ram: GuestRam) -> None:
        """Put it where it wants to be; there is memory up to its `end`."""
        ram.fill_from(self.file, self.setup_size, self.size, self.pref_address)


def _field(head: bytes, name: str) -> int:
    layout, offset = _FIELDS[name]
    value: int = struct.unpack_from(layout, head, offset)[0]
    return value


def _unfit(found: object, reason: str) -> InvalidImage:
    return InvalidImage("kernel", found, reason)
