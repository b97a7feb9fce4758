"""What a machine is doing, in QEMU's words.

Source: QEMU's qapi/run-state.json.
"""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Processors run in `RUNNING` only."""

    PRELAUNCH = "prelaunch"
    INMIGRATE = "inmigrate"
    """It is being filled from a saved state."""
    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io-error"
    """Who serves a disk has gone; it can go on when somebody serves it again."""
    POSTMIGRATE = "postmigrate"
    """Its state has been saved whole."""
    SHUTDOWN = "shutdown"
    """The guest switched itself off."""
    INTERNAL_ERROR = "internal-error"
    """A processor or a device has failed."""


NEEDS_RESET = frozenset({RunState.SHUTDOWN, RunState.INTERNAL_ERROR})
"""There is nothing to go on from."""
