"""Files that are complete as soon as they have their name."""

from __future__ import annotations

import os
from pathlib import Path

PART_SUFFIX = ".part"
"""Ends the name of a file that is being written. A crash may leave one; nobody ever reads it."""


def part_of(path: Path) -> Path:
    """Where a file is written that is to have this name."""
    return path.with_name(path.name + PART_SUFFIX)


def publish(part: Path, path: Path) -> None:
    """Give a finished file its name, so that even a power failure leaves all of it or nothing.

    :raises OSError: the file system refuses.
    """
    sync(part)
    part.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, survive a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
