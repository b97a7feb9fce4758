"""Files that are complete as soon as they have their name."""

from __future__ import annotations

import os
from pathlib import Path


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
