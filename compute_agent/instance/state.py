"""The states of an instance, with Nova's names."""

from __future__ import annotations

from enum import StrEnum


class VmState(StrEnum):
    """What the instance is to its owner; it lasts, and changes only when an operation ends."""

    BUILDING = "building"
    ACTIVE = "active"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    ERROR = "error"
    INCOMING = "incoming"
    """Memory comes in from another host, which owns it: it is not this host's to run."""


LIVING = frozenset({VmState.ACTIVE, VmState.PAUSED})
"""States in which an instance has a guest, or has lost it."""


class PowerState(StrEnum):
    """What the guest's machine does at this moment, as the hypervisor sees it."""

    NOSTATE = "nostate"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    SUSPENDED = "suspended"
    UNRESPONSIVE = "unresponsive"
