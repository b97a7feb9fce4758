"""`lab down`: ends the process that keeps the lab; the kernel does the rest."""

from __future__ import annotations

import os
import select
import signal

from laboratory import record
from laboratory.record import Record
from sandbox.commands import SandboxError

_END_TIMEOUT = 15.0


def end(lab: Record) -> None:
    """Return when nothing of it is left.

    :raises SandboxError: it does not end.
    """
    descriptor = os.pidfd_open(lab.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        if not select.select([descriptor], [], [], _END_TIMEOUT)[0]:
            raise SandboxError(f"process {lab.pid} has not ended after {_END_TIMEOUT:g} s")
    finally:
        os.close(descriptor)
    record.remove()
