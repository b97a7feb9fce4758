"""`lab down`: ends the process that keeps the lab; the kernel does the rest."""

from __future__ import annotations

import signal

from laboratory import record
from laboratory.record import Record
from sandbox.commands import end_process

_END_TIMEOUT = 15.0


def end(lab: Record) -> None:
    """Return when nothing of it is left.

    :raises SandboxError: it does not end.
    """
    end_process(lab.pid, signal.SIGTERM, _END_TIMEOUT)
    record.remove()
