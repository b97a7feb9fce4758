"""What a process has used so far, read from /proc. All raise ProcessLookupError once it is gone."""

from __future__ import annotations

import contextlib
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


def thread_cpu_times(pid: int) -> dict[int, float]:
    """Seconds of CPU that each thread has used, by the number that the process itself knows the thread by."""
    times = {}
    for entry in _entries(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended since they were listed
            times[_own_number(entry)] = _cpu_time(_fields(entry / "stat"))
    return times


def _own_number(thread: Path) -> int:
    """Its number in the innermost PID namespace, the last that NSpid lists."""
    status = _read(thread / "status")
    (numbers,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(numbers.split()[-1])


def _cpu_time(fields: list[str]) -> float:
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND


def _stat(pid: int) -> list[str]:
    return _fields(Path(f"/proc/{pid}/stat"))


def _fields(stat: Path) -> list[str]:
    return _read(stat).rpartition(")")[2].split()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise ProcessLookupError(f"{path} is gone") from error


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError as error:
        raise ProcessLookupError(f"{directory} is gone") from error
