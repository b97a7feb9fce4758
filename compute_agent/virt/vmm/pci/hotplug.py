"""Devices that come and go while a guest runs: registers for the methods in ACPI's DSDT, which Linux calls "acpiphp".

Source: QEMU's docs/specs/acpi_pci_hotplug.rst, for one bus and at ports of our own; ACPI 6.4, 6.3 (device insertion,
removal).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from compute_agent.virt.vmm.pci.bus import SLOTS

PORTS = range(0x610, 0x61C)
_SLOTS = (1 << SLOTS) - 1 & ~1
"""A bit for each but the bridge's."""


class _Register(IntEnum):
    """Offsets from the first port."""

    CAME = 0
    GOES = 4
    EJECT = 8


class HotPlugState(msgspec.Struct, frozen=True):
    """What survives a suspension; a bit for each slot."""

    came: int
    goes: int


class HotPlug:
    """Only says what is to be done; `Bus` does it."""

    def __init__(self, tell: Callable[[], None], eject: Callable[[int], None]) -> None:
        """:param tell: lets the guest look here; `eject` takes what is in a slot, if anything, out of it."""
        self._tell = tell
        self._eject = eject
        self._came = self._goes = 0

    def announce(self, slot: int) -> None:
        """Something is in the slot now."""
        self._came |= 1 << slot
        self._tell()

    def ask_for(self, slot: int) -> None:
        """Let the guest give up what is in the slot; `eject` follows, if ever. May be repeated."""
        self._goes |= 1 << slot
        self._tell()

    def read(self, offset: int, size: int) -> int:
        if offset == _Register.CAME:
            came, self._came = self._came, 0
            return came
        return self._goes if offset == _Register.GOES else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == _Register.EJECT:
            self._eject_all(value & _SLOTS)

    def reset(self) -> None:
        """The guest that was asked is not there any more: what it was asked for goes."""
        self._came = 0
        self._eject_all(self._goes)

    def state(self) -> HotPlugState:
        return HotPlugState(self._came, self._goes)

    def restore(self, state: HotPlugState) -> None:
        self._came, self._goes = state.came, state.goes

    def _eject_all(self, slots: int) -> None:
        self._came &= ~slots
        self._goes &= ~slots
        for slot in range(SLOTS):
            if slots & 1 << slot:
                self._eject(slot)
