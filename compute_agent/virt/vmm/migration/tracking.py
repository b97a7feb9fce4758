"""Which pages of a machine's memory are being written while it runs: by its processors, its devices, and ourselves.

Source: Linux's Documentation/virt/kvm/api.rst (KVM_GET_DIRTY_LOG).
"""

from __future__ import annotations

import os

from compute_agent.errors import DeviceError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.pages import PAGE, PageSet
from compute_agent.virt.kvm.vm import Vm
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.process_log import say
from compute_agent.virt.vmm.slots import Slots
from compute_agent.virt.vmm.write_log import WriteLog


class Tracking:
    """It takes some of the guest's speed while it is on."""

    def __init__(self, vm: Vm, ram: GuestRam, slots: Slots) -> None:
        """Made before the process gives up making files."""
        self._vm = vm
        self._ram = ram
        self._slots = slots
        self._log = WriteLog(ram.regions[-1].guest_addresses.stop)
        self._is_on = False

    def begin(self) -> None:
        """From now on.

        :raises DeviceError: who serves a device keeps no log; nothing is tracked.
        """
        self._ram.log = self._log
        try:
            self._slots.change_log()
        except DeviceError:
            self.end()
            raise
        self._log_processors(True)

    def end(self) -> None:
        """No more. May be repeated."""
        self._ram.log = None
        try:
            self._slots.change_log()
        except DeviceError as error:  # it has gone, and writes nothing any more
            say(f"A device was not told that its writes need no log: {error}")
        self._log_processors(False)
        self.take()

    def take(self, pages: PageSet | None = None) -> PageSet:
        """What was written since the last time, by pages of the memfd; added to `pages` where there are some."""
        pages = PageSet(self._ram.size // PAGE) if pages is None else pages
        for number, region in enumerate(self._ram.regions):
            at, count = region.offset // PAGE, region.size // PAGE
            if self._is_on:
                written = bytearray(self._vm.dirty_log(number, region.size))
                pages.take_from(ffi.from_buffer("uint64_t[]", written), at, count)
            pages.take_from(self._log.part(region.guest_address), at, count)
        return pages

    def touched(self) -> PageSet:
        """All that may be something else than zeros."""
        pages, place = PageSet(self._ram.size // PAGE), 0
        while place < self._ram.size:
            try:
                start = os.lseek(self._ram.fd, place, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            place = os.lseek(self._ram.fd, start, os.SEEK_HOLE)
            pages.add(start // PAGE, -(-place // PAGE))
        return pages

    def _log_processors(self, on: bool) -> None:
        if on != self._is_on:
            self._is_on = on
            for number, region in enumerate(self._ram.regions):
                address = self._ram.host_address(region)
                self._vm.set_memory(number, region.guest_address, address, region.size, log_dirty=on)
