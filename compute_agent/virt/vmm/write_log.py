"""Which of a guest's pages somebody other than its processors has written: one log for all who do.

Sources: <linux/vhost.h> (VHOST_SET_LOG_BASE); QEMU's docs/interop/vhost-user.rst, Migration.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from compute_agent.virt.kvm._binding import ffi, lib
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.kvm.pages import PAGE, words_of

LOG_ALL = 1 << 26
"""The feature, of vhost and of vhost-user, that says: log what you write."""
_WORD = 8
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class WriteLog:
    """A bit for each page, by the guest's addresses; takes memory where bits are set. It lasts as long as the process.

    :raises OSError: the host has no memory for it.
    """

    def __init__(self, end: int) -> None:
        """:param end: the first address that is none of the guest's memory any more."""
        self.size = -(-words_of(end // PAGE) * _WORD // mmap.PAGESIZE) * mmap.PAGESIZE
        """Bytes."""
        self.fd = os.memfd_create("write-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        """To be shared with servers."""
        os.ftruncate(self.fd, self.size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._content = ffi.from_buffer("uint64_t[]", mmap.mmap(self.fd, self.size))

    @property
    def host_address(self) -> int:
        """Where it is in our own address space."""
        return int(ffi.cast("uintptr_t", self._content))

    def add(self, address: int, length: int) -> None:
        """Bytes of the guest's were written by ourselves."""
        lib.pages_add(self._content, address // PAGE, -(-(address + length) // PAGE))

    def part(self, address: int) -> CData:
        """The log from an address on, a multiple of 64 pages."""
        return self._content + address // PAGE // (_WORD * 8)

    def close(self) -> None:
        """Nobody writes to it any more. May be repeated."""
        if self.fd >= 0:
            ffi.release(self._content)
            os.close(self.fd)
            self.fd = -1
