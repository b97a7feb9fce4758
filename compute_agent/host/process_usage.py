"""What a process has used so far, read from /proc. All raise ProcessLookupError once it is gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")

# Positions in /proc/<pid>/stat after the command's closing parenthesis: proc(5) numbers them from 3.
_USER_TICKS = 14 - 3
_SYSTEM_TICKS = 15 - 3
_START_TICKS = 22 - 3
_RESIDENT_PAGES = 24 - 3


def uptime(pid: int) -> float:
    """Seconds since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat(pid)[_START_TICKS]) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Memory that it holds in RAM, shared pages included."""
    return int(_stat(pid)[_RESIDENT_PAGES]) * _PAGE_SIZE


def thread_cpu_time(pid: int, thread: int) -> float:
    """Seconds of CPU that one thread has used."""
    fields = _stat(pid, thread)
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND


def _stat(pid: int, thread: int | None = None) -> list[str]:
    path = Path(f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat")
    try:
        return path.read_text().rpartition(")")[2].split()
    except FileNotFoundError as error:
        raise ProcessLookupError(f"process {pid} is gone") from error
