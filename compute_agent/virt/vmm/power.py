"""ACPI's fixed hardware: power off, the power button, the power management timer, and word of other events.

Source: ACPI 6.4, 4.8.3.1 (PM1 event registers), 4.8.3.2 (PM1 control register), 4.8.3.3 (timer) and 4.8.4.1 (general
purpose events).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

import msgspec

from compute_agent.virt.vmm.interrupts import Line

PORTS = range(0x600, 0x610)
SCI_GSI = 9
"""The interrupt of all this; a level."""
SLEEP_TYPE_OFF = 0
"""What ``_S5`` says in the DSDT; the same as on QEMU's machines."""
HOT_PLUG_EVENT = 1
"""The general purpose event that says: look at the bus."""
_POWER_BUTTON = 0x0100
_SCI_ENABLED = 0x0001
_SLEEP = 0x2000
_CONTROL_KEPT = 0x1C02


class Register(IntEnum):
    """Offsets from the first port."""

    STATUS = 0
    ENABLE = 2
    CONTROL = 4
    TIMER = 8
    GENERAL_STATUS = 12
    GENERAL_ENABLE = 13


class Timer(Protocol):
    """The power management timer, which the guest can also read without asking us."""

    def timer_ticks(self) -> int:
        """32 bits; it counts 3.579545 million in a second."""

    def set_timer_ticks(self, ticks: int) -> None:
        """Let it go on from there."""


class PowerState(msgspec.Struct, frozen=True):
    """What survives a suspension; the timer in ticks."""

    status: int
    enabled: int
    general_status: int
    general_enabled: int
    control: int
    timer: int


class Power:
    """The block of registers. It is always in ACPI mode: there is no firmware to hand over from."""

    def __init__(self, interrupt: Line, timer: Timer, power_off: Callable[[], None]) -> None:
        """:param power_off: called on the thread of the vCPU that asked."""
        self._interrupt = interrupt
        self._timer = timer
        self._power_off = power_off
        self._status = self._enabled = self._control = 0
        self._general_status = self._general_enabled = 0

    def press_button(self) -> None:
        """What a guest makes of it is its own affair; most shut down."""
        self._status |= _POWER_BUTTON
        self._update_interrupt()

    def tell_of_hot_plug(self) -> None:
        """Let the guest look at the bus."""
        self._general_status |= 1 << HOT_PLUG_EVENT
        self._update_interrupt()

    def read(self, offset: int, size: int) -> int:
        registers = (
            self._status
            | self._enabled << 8 * Register.ENABLE
            | (self._control | _SCI_ENABLED) << 8 * Register.CONTROL
            | self._timer.timer_ticks() << 8 * Register.TIMER
            | self._general_status << 8 * Register.GENERAL_STATUS
            | self._general_enabled << 8 * Register.GENERAL_ENABLE
        )
        return registers >> 8 * offset

    def write(self, offset: int, size: int, value: int) -> None:
        for place, byte in enumerate(value.to_bytes(size, "little"), offset):
            self._write_byte(place, byte)
        self._update_interrupt()

    def reset(self) -> None:
        """The timer runs on."""
        self._status = self._enabled = self._control = 0
        self._general_status = self._general_enabled = 0
        self._update_interrupt()

    def state(self) -> PowerState:
        general = (self._general_status, self._general_enabled)
        return PowerState(self._status, self._enabled, *general, self._control, self._timer.timer_ticks())

    def restore(self, state: PowerState) -> None:
        self._status, self._enabled, self._control = state.status, state.enabled, state.control
        self._general_status, self._general_enabled = state.general_status, state.general_enabled
        self._timer.set_timer_ticks(state.timer)
        self._update_interrupt()

    def _write_byte(self, place: int, byte: int) -> None:
        if place < Register.ENABLE:
            self._status &= ~(byte << 8 * place)
        elif place < Register.CONTROL:
            self._enabled = _with_byte(self._enabled, place - Register.ENABLE, byte)
        elif place < Register.CONTROL + 2:
            written = _with_byte(0, place - Register.CONTROL, byte)
            self._control = _with_byte(self._control, place - Register.CONTROL, byte) & _CONTROL_KEPT
            if written & _SLEEP and written >> 10 & 7 == SLEEP_TYPE_OFF:
                self._power_off()
        elif place == Register.GENERAL_STATUS:
            self._general_status &= ~byte
        elif place == Register.GENERAL_ENABLE:
            self._general_enabled = byte

    def _update_interrupt(self) -> None:
        fixed, general = self._status & self._enabled, self._general_status & self._general_enabled
        self._interrupt.set(bool(fixed | general))


def _with_byte(value: int, place: int, byte: int) -> int:
    shift = 8 * place
    return value & ~(0xFF << shift) | byte << shift
