"""Descriptors that a running server shall open anew."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.host.processes import Process


@contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """A descriptor to read `content` from; afterwards nobody can, whoever still has it open."""
    fd = os.memfd_create("lent", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.ftruncate(fd, 0)
        os.close(fd)


def number_of(process: Process, fd: int) -> int:
    """Under which `process` has our file `fd` open.

    :raises StorageError: it has not.
    """
    wanted = os.fstat(fd)
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            if os.path.samestat(entry.stat(), wanted):
                return int(entry.name)
    raise StorageError(f"block server: {process} has not got the descriptor that was sent to it")
