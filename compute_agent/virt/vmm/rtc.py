"""The clock that runs while a machine is off, and its battery-backed bytes. It has no alarm: guests have better ones.

Source: Motorola MC146818A data sheet; the century's place is that of ACPI's table (FADT, CENTURY).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import msgspec

PORTS = range(0x70, 0x72)
CENTURY = 0x32
_SIZE = 128
_INDEX, _DATA = 0, 1
_STOPPED = 0x80
"""In register B: the guest sets the time."""


class Register(IntEnum):
    """Those with a meaning; the rest is memory."""

    SECONDS = 0x00
    MINUTES = 0x02
    HOURS = 0x04
    WEEKDAY = 0x06
    DAY = 0x07
    MONTH = 0x08
    YEAR = 0x09
    CENTURY = CENTURY
    A = 0x0A
    B = 0x0B
    C = 0x0C
    D = 0x0D


_TIME = frozenset(Register) - {Register.A, Register.B, Register.C, Register.D}
_FIXED = {
    Register.A: 0x26,  # 32768 Hz; no update is ever under way
    Register.B: 0x02,  # 24 hours, decimal
    Register.C: 0x00,  # no interrupt is pending
    Register.D: 0x80,  # the battery is good
}


class RtcState(msgspec.Struct, frozen=True):
    """What survives a suspension; `offset` is the guest's time less the host's, in seconds."""

    offset: float
    memory: bytes
    selected: int
    being_set: dict[int, int] | None


class Rtc:
    """Shows the host's time, UTC, until the guest sets another one."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._offset = timedelta()
        self._memory = bytearray(_SIZE)
        self._index = 0
        self._setting: dict[int, int] | None = None

    def read(self, offset: int, size: int) -> int:
        if offset == _INDEX:
            return -1
        if self._index in _TIME:
            return self._time()[self._index]
        if self._index in _FIXED:
            return _FIXED[Register(self._index)] | (_STOPPED if self._is_stopped else 0)
        return self._memory[self._index]

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == _INDEX:
            self._index = value % _SIZE
            value >>= 8
        if offset == _DATA or size > 1:
            self._write_register(value & 0xFF)

    def state(self) -> RtcState:
        being_set = dict(self._setting) if self._setting is not None else None
        return RtcState(self._offset.total_seconds(), bytes(self._memory), self._index, being_set)

    def restore(self, state: RtcState) -> None:
        self._offset = timedelta(seconds=state.offset)
        self._memory[:] = state.memory[:_SIZE].ljust(_SIZE, b"\0")
        self._index, self._setting = state.selected % _SIZE, state.being_set

    @property
    def _is_stopped(self) -> bool:
        return self._index == Register.B and self._setting is not None

    def _write_register(self, value: int) -> None:
        if self._index == Register.B:
            self._stop_or_go(bool(value & _STOPPED))
        elif self._index in _TIME:
            was_stopped = self._setting is not None
            self._stop_or_go(True)
            self._time()[self._index] = value
            self._stop_or_go(was_stopped)
        elif self._index not in _FIXED:
            self._memory[self._index] = value

    def _stop_or_go(self, stop: bool) -> None:
        if stop and self._setting is None:
            self._setting = self._time()
        elif not stop and self._setting is not None:
            self._set(self._setting)
            self._setting = None

    def _time(self) -> dict[int, int]:
        if self._setting is not None:
            return self._setting
        try:
            now = self._now() + self._offset
        except OverflowError:
            now = self._now()
        return {
            Register.SECONDS: _decimal(now.second),
            Register.MINUTES: _decimal(now.minute),
            Register.HOURS: _decimal(now.hour),
            Register.WEEKDAY: now.isoweekday() % 7 + 1,
            Register.DAY: _decimal(now.day),
            Register.MONTH: _decimal(now.month),
            Register.YEAR: _decimal(now.year % 100),
            Register.CENTURY: _decimal(now.year // 100),
        }

    def _set(self, written: dict[int, int]) -> None:
        """What is no date at all is forgotten."""
        number = {field: _number(value) for field, value in written.items()}
        try:
            wanted = datetime(
                year=number[Register.CENTURY] * 100 + number[Register.YEAR],
                month=number[Register.MONTH],
                day=number[Register.DAY],
                hour=number[Register.HOURS],
                minute=number[Register.MINUTES],
                second=number[Register.SECONDS],
                tzinfo=UTC,
            )
        except ValueError:
            return
        self._offset = wanted - self._now()


def _decimal(value: int) -> int:
    return value // 10 << 4 | value % 10


def _number(decimal: int) -> int:
    return (decimal >> 4) * 10 + (decimal & 0xF)
