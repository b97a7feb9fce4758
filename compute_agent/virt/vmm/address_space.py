"""Which device answers at which address: one space for ports, one for memory-mapped registers.

Source: Linux's Documentation/virt/kvm/api.rst (KVM_EXIT_IO, KVM_EXIT_MMIO). What PCs do where no device is: reads are
all ones, writes are lost.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import AbstractContextManager
from typing import Protocol

from compute_agent.errors import AddressInUse


class Region(Protocol):
    """A device's registers. Never raises, whatever the guest does; what a register does not know reads as 0 or ones."""

    def read(self, offset: int, size: int) -> int:
        """What is at `offset` from where the region begins; bits beyond `size` bytes do not count."""

    def write(self, offset: int, size: int, value: int) -> None:
        """`value` is of `size` bytes, 1 to 8."""


class AddressSpace:
    """Regions that do not overlap. Only one access is under way at a time: devices need no locks."""

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        """:param lock: a ``threading.RLock``, held during accesses; whoever else touches the devices holds it, too."""
        self._lock = lock
        self._starts: list[int] = []
        self._places: list[tuple[range, Region]] = []

    def add(self, start: int, size: int, region: Region) -> None:
        """:raises AddressInUse: another region is in the way; nothing was added."""
        addresses = range(start, start + size)
        place = bisect_right(self._starts, start)
        for other, _ in self._places[max(0, place - 1) : place + 1]:
            if other.start < addresses.stop and addresses.start < other.stop:
                raise AddressInUse(f"{addresses.start:#x}-{addresses.stop - 1:#x}", f"{other.start:#x}")
        self._starts.insert(place, start)
        self._places.insert(place, (addresses, region))

    def remove(self, region: Region) -> None:
        """May be repeated."""
        self._places = [place for place in self._places if place[1] is not region]
        self._starts = [addresses.start for addresses, _ in self._places]

    def move(self, region: Region, start: int) -> None:
        """:raises AddressInUse: another region is in the way; the region is where it was."""
        (addresses,) = (addresses for addresses, one in self._places if one is region)
        self.remove(region)
        try:
            self.add(start, len(addresses), region)
        except AddressInUse:
            self.add(addresses.start, len(addresses), region)
            raise

    def read(self, address: int, size: int) -> int:
        """What a guest's processor reads, `size` bytes wide."""
        ones = (1 << 8 * size) - 1
        with self._lock:
            found = self._find(address, size)
            return found[0].read(found[1], size) & ones if found else ones

    def write(self, address: int, size: int, value: int) -> None:
        """What a guest's processor writes."""
        with self._lock:
            found = self._find(address, size)
            if found:
                found[0].write(found[1], size, value)

    def _find(self, address: int, size: int) -> tuple[Region, int] | None:
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        addresses, region = self._places[place]
        return (region, address - addresses.start) if address + size <= addresses.stop else None
