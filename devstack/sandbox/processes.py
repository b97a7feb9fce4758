"""What runs in the sandbox's process namespace."""

from __future__ import annotations

from pathlib import Path


def processes() -> Iterator[int]:
    return (int(directory.name) for directory in Path("/proc").glob("[0-9]*"))


def _environment(pid: int) -> list[bytes]:
    """That which its program was started with; empty for kernel threads, zombies and processes that have ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
