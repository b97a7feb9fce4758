"""Is the clock kept right? Certificates, and a cloud that compares the times of its hosts, need it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from compute_agent.doctor.finding import Finding, ok, warning

_STA_UNSYNC = 0x0040
_MOST_ERROR = 1.0
"""Seconds."""
_REMEDY = "apt install chrony && systemctl enable --now chrony; then: chronyc tracking"


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the kernel knows of the clock."""

    synchronised: bool
    """Somebody keeps it right, and has done so lately."""
    largest_error: float
    """Seconds."""


class _Timex(ctypes.Structure):
    """The start of struct timex (adjtimex(2)), and room for its rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def check_clock() -> list[Finding]:
    """Ask the kernel."""
    return [judge_clock(_ask())]


def judge_clock(clock: ClockState) -> Finding:
    """Is it good enough?"""
    if not clock.synchronised:
        return warning("clock", "not synchronised: nothing keeps it right", _REMEDY)
    if clock.largest_error > _MOST_ERROR:
        return warning("clock", f"may be wrong by {clock.largest_error:.1f} s", _REMEDY)
    return ok("clock", f"synchronised, right to {clock.largest_error * 1000:.0f} ms")


def _ask() -> ClockState:
    timex = _Timex()  # modes 0: nothing is set
    ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    return ClockState(not timex.status & _STA_UNSYNC, timex.maxerror / 1e6)
