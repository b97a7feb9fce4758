"""Files that are complete as soon as they have their name."""

from __future__ import annotations

import os
from pathlib import Path


def publish(part: Path, path: Path) -> None:
    """Give a finished file its name, so that even a power failure leaves all of it or nothing.

    :raises OSError: the file system refuses.
    """
    _sync(part)
    part.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
