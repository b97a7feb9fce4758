"""What a process that outlives us writes to its standard output and error."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL_BYTES = 4096
_TAIL_LINES = 5


def open_log(path: Path) -> int:
    """A descriptor of a new log; that of the former process becomes ``<path>.1``."""
    if path.exists():
        path.rename(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def last_lines(path: Path) -> str:
    """The end of the log, on one line for a person."""
    if not path.exists():
        return "no log"
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return " | ".join(lines[-_TAIL_LINES:]) or "it wrote nothing"
