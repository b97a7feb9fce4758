"""A paused guest's memory, to a file: QEMU migrates it to a descriptor.

The file has its final name only when all of it is on disk. QEMU's run state tells whether an earlier
attempt (of this agent or of one that was killed) came to its end: ``postmigrate`` means that it did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compute_agent.errors import MonitorError
from compute_agent.host.durable import part_of, publish
from compute_agent.host.qmp import Execute

_AT_WORK = ("setup", "active", "device", "cancelling", "wait-unplug", "pre-switchover")
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
_UNLIMITED = 1 << 50
"""Bytes a second; QEMU's default would be 128 MiB."""


def save_memory(execute: Execute, path: Path, seconds: float) -> None:
    """Write the paused guest's memory to `path` within `seconds`.

    :raises MonitorError: it was not written; the guest is paused as before.
    """
    try:
        _save(execute, path, part_of(path), seconds)
    except OSError as error:
        raise MonitorError(f"the guest's memory cannot be written: {error}") from error


def _save(execute: Execute, path: Path, part: Path, seconds: float) -> None:
    if execute("query-status")["status"] != "postmigrate":
        _abandon(execute)
        _write(execute, part, seconds)
    if part.exists():
        publish(part, path)
    elif not path.exists():
        raise MonitorError(f"the guest's memory was saved before, but {path} is not there any more")


def _write(execute: Execute, part: Path, seconds: float) -> None:
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED})
        execute("getfd", {"fdname": "memory"}, fd=fd)
        execute("migrate", {"uri": "fd:memory"})
        _finish(execute, seconds)
    except MonitorError:
        part.unlink()
        raise
    finally:
        os.close(fd)


def _finish(execute: Execute, seconds: float) -> None:
    state = _wait_while(execute, _AT_WORK, seconds)
    if state.get("status") in _AT_WORK:
        state = _abandon(execute) | {"error-desc": f"it took longer than {seconds:g} s"}
    if state.get("status") != "completed":
        raise MonitorError(f"saving the guest's memory failed: {state.get('error-desc', state.get('status'))}")


def _abandon(execute: Execute) -> dict[str, Any]:
    """End an attempt that is under way, and say how it ended; nothing happens where there is none."""
    execute("migrate_cancel")
    return _wait_while(execute, _AT_WORK, seconds=_LONGEST_PAUSE * 40)


def _wait_while(execute: Execute, states: Sequence[str], seconds: float) -> dict[str, Any]:
    """Look at the migration, ever less often, until it leaves `states` or the time is over."""
    end, pause = time.monotonic() + seconds, _SHORTEST_PAUSE
    while (state := execute("query-migrate")).get("status") in states and time.monotonic() < end:
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return dict(state)
