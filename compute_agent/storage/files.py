"""Directories, space and files that are complete as soon as they can be seen."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import InsufficientResources, InvalidConfiguration, StorageError
from compute_agent.host.durable import part_of, publish

BLOCK = 512
"""Bytes that `st_blocks` counts in."""

_MIB = 1024 * 1024


def prepare_directory(directory: Path, option: str) -> None:
    """Make the directory, for this user only, unless it exists.

    :raises InvalidConfiguration: it cannot be used; `option` is where it was configured.
    """
    if not directory.is_absolute():
        raise InvalidConfiguration(option, str(directory), "must be an absolute path")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidConfiguration(option, str(directory), f"cannot be used: {error.strerror}") from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidConfiguration(option, str(directory), "is not writable")


def total_space(directory: Path) -> int:
    """Bytes of the directory's file system."""
    status = os.statvfs(directory)
    return status.f_blocks * status.f_frsize


def free_space(directory: Path) -> int:
    """Bytes that may still be written there."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def require_space(directory: Path, needed: int, reserved: int) -> None:
    """:raises InsufficientResources: after `needed` bytes there, less than `reserved` would be free."""
    free = free_space(directory)
    if free - needed < reserved:
        raise InsufficientResources(
            f"{directory} has not enough space: {_mib(needed)} needed, {_mib(free)} free, "
            f"of which {_mib(reserved)} are reserved"
        )


def require_present(path: Path) -> Path:
    """:raises StorageError: nothing is there."""
    if not path.exists():
        raise StorageError(f"{path} is missing")
    return path


def write_complete(path: Path, write: Callable[[Path], None]) -> None:
    """Unless the file exists: let `write` fill one of another name, then give it its own."""
    if path.exists():
        return
    part = part_of(path)
    write(part)
    publish(part, path)


def remove_tree(directory: Path) -> None:
    """Remove a directory and what is in it. Nothing happens where there is none."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Tell what the operating system refuses in the words of `compute_agent.errors`."""
    try:
        yield
    except OSError as error:
        kind = InsufficientResources if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{error.filename or directory}: {error.strerror or error}") from error


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"
