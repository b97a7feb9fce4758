"""A guest's RAM: one sealed memfd, which the guest sees below 3 GiB and from 4 GiB on; devices are between.

Sources: Linux's Documentation/virt/kvm/api.rst (KVM_SET_USER_MEMORY_REGION) and memfd_create(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from compute_agent.errors import BadGuestAddress, InsufficientResources
from compute_agent.virt.vmm.write_log import WriteLog

HOLE = range(3 * 1024**3, 4 * 1024**3)
"""Guest addresses that are not RAM, however much of it there is."""
_ZEROS = 1024**2
"""Bytes that are written at once."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Nobody who gets the memfd can take memory away under the guest, which would end whoever touches it."""


class MemoryRegion(msgspec.Struct, frozen=True):
    """A piece of RAM."""

    guest_address: int
    size: int
    offset: int
    """Where it is in the memfd."""

    @property
    def guest_addresses(self) -> range:
        """All of them."""
        return range(self.guest_address, self.guest_address + self.size)


def regions_of(size: int) -> list[MemoryRegion]:
    """How `size` bytes lie around the hole."""
    below = min(size, HOLE.start)
    regions = [MemoryRegion(0, below, 0)]
    if size > below:
        regions.append(MemoryRegion(HOLE.stop, size - below, below))
    return regions


class GuestRam:
    """Zeros at first; takes host memory as the guest touches it, or at once in huge pages.

    :raises InsufficientResources: the host has not that much memory, or not that many huge pages.
    """

    def __init__(self, size: int, *, huge_pages: bool = False) -> None:
        """:param size: bytes; whole pages, or whole huge pages of 2 MiB."""
        self.size = size
        self.regions: Sequence[MemoryRegion] = regions_of(size)
        self.log: WriteLog | None = None
        """Where there is one, whoever writes to the memory notes it there, before or right after."""
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | (os.MFD_HUGETLB | os.MFD_HUGE_2MB if huge_pages else 0)
        self.fd = os.memfd_create("guest-ram", flags)
        """To be shared with who serves the guest's devices."""
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
            self._content = mmap.mmap(self.fd, size)
        except (OSError, ValueError) as error:
            os.close(self.fd)
            raise InsufficientResources(f"{size >> 20} MiB of memory for a guest: {error}") from error
        self._view = memoryview(self._content)

    def host_address(self, region: MemoryRegion) -> int:
        """Where a piece begins in our own address space."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._content)) + region.offset

    def read(self, address: int, length: int) -> bytes:
        """:raises BadGuestAddress: not all of it is RAM."""
        return bytes(self._view[self._slice(address, length)])

    def write(self, address: int, data: bytes) -> None:
        """:raises BadGuestAddress: not all of it is RAM; nothing was written."""
        self._view[self._slice(address, len(data))] = data
        self._note(address, len(data))

    def fill_from(self, file: int, offset: int, length: int, address: int) -> None:
        """Read bytes of a file straight to where the guest sees them.

        :raises BadGuestAddress: not all of it is RAM; nothing was written.
        :raises EOFError: the file is shorter.
        """
        target = self._view[self._slice(address, length)]
        while target:
            count = os.preadv(file, [target], offset)
            if count == 0:
                raise EOFError(f"the file ends {len(target)} bytes too early")
            target, offset = target[count:], offset + count
        self._note(address, length)

    def clear(self, address: int, length: int) -> None:
        """Write zeros. :raises BadGuestAddress: not all of it is RAM; nothing was written."""
        place = self._slice(address, length)
        for start in range(place.start, place.stop, _ZEROS):
            piece = slice(start, min(start + _ZEROS, place.stop))
            self._view[piece] = bytes(piece.stop - piece.start)
        self._note(address, length)

    def content(self, offset: int, length: int) -> memoryview:
        """Bytes of the memfd, as they are at each moment; within `size`."""
        return self._view[offset : offset + length]

    def fill(self, offset: int, data: bytes | memoryview) -> None:
        """Write bytes of the memfd; within `size`."""
        self._view[offset : offset + len(data)] = data

    def empty(self, offset: int, length: int) -> None:
        """Whole pages of the memfd, within `size`, are zeros, and take no memory of the host if it can be."""
        try:
            self._content.madvise(mmap.MADV_REMOVE, offset, length)
        except OSError:  # they are parts of huge pages
            self._view[offset : offset + length] = bytes(length)

    def close(self) -> None:
        """Give it back to the host; the machine must be gone. May be repeated."""
        if self.fd >= 0:
            self._view.release()
            self._content.close()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, address: int, length: int) -> None:
        log = self.log
        if log is not None:
            log.add(address, length)

    def _slice(self, address: int, length: int) -> slice:
        for region in self.regions:
            inside = address - region.guest_address
            if inside >= 0 and 0 <= length <= region.size - inside:
                return slice(region.offset + inside, region.offset + inside + length)
        raise BadGuestAddress(f"{length} bytes at {address:#x} are not all the guest's memory")
