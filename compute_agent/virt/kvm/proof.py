"""Shows that KVM runs a 64-bit guest here, and what an exit from it costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the guest showed."""

    exit_nanoseconds: float
    """Median of `exits` exits, from the guest to Python and back: the ioctl through cffi is part of it."""
    exits: int
    turn_nanoseconds: float
    """What one turn of a loop of eight instructions took inside the guest: below 100 where a processor runs them."""


def prove(device: Path = KVM_DEVICE, seconds: float = 5.0) -> Proof:
    """Run a guest of some hundred bytes in long mode, in a process of its own that is killed at the deadline.

    :param seconds: for all of it, the start of the process included.
    :raises KvmError: the device cannot be used, or the guest did not do what it should; says which, and what KVM said.
    """
    raise NotImplementedError
