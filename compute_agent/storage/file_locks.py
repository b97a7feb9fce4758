"""Who writes to a file that hosts share: QEMU's own locks say whether somebody does, a note beside it says who.

Source: QEMU, block/file-posix.c: an opener that may write holds byte 100 + 1 of the image locked (BLK_PERM_WRITE).
The lock is the open file's, so it lasts as long as the guest's process, on every host that shares the file system.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from compute_agent.errors import DiskInUse
from compute_agent.host.durable import PART_SUFFIX

_READER = 100
_WRITER = 100 + 1
"""The bytes that whoever reads, and whoever writes, holds (BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE)."""

_KEEPS_WRITERS_OUT = 200 + 1
"""The byte that whoever cannot bear another writer holds: a guest that writes to an overlay on the file is such."""

_INSTANCE = ", instance "

_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock: type, whence, start, length, pid."""


def require_no_other_writer(path: Path, owner: str) -> None:
    """Whoever writes to the file is `owner`, which is noted beside it; or nobody is.

    :raises DiskInUse: somebody else does.
    :raises OSError: the file cannot be opened.
    """
    if is_in_use(path):
        if (noted := noted_writer(path)) != owner:
            raise DiskInUse(f"{path} is in use by {noted}")
    else:
        _write_note(path, owner)


def pass_on(path: Path, owner: str) -> None:
    """The file is `owner`'s, where it was the same instance's on another host, or nobody's.

    :raises DiskInUse: somebody else writes to it.
    :raises OSError: the file cannot be opened, or the note not written.
    """
    if is_noted_for(path, _instance_of(owner)):  # its process may hold the lock, on this host or still on the other
        _write_note(path, owner)
    else:
        require_no_other_writer(path, owner)


def owner_of(host: str, instance_uuid: str) -> str:
    """An instance on a host, as notes name it."""
    return f"{host}{_INSTANCE}{instance_uuid}"


def is_noted_for(path: Path, instance_uuid: str) -> bool:
    """The note says that it is that instance's, on whatever host."""
    return _instance_of(noted_writer(path)) == instance_uuid


def _instance_of(owner: str) -> str:
    return owner.rpartition(_INSTANCE)[2]


def noted_writer(path: Path) -> str:
    """Who the note beside the file says that it belongs to."""
    return _noted(path) or "somebody who has left no name"


def forget_writer(path: Path, owner: str) -> None:
    """Take the note away that `owner` left."""
    if _noted(path) == owner:
        _note(path).unlink()


def is_in_use(path: Path) -> bool:
    """Whether somebody writes to the file, or to what stands on it.

    :raises OSError: it cannot be opened.
    """
    return has_writer(path) or _is_held(path, _KEEPS_WRITERS_OUT)


def has_writer(path: Path) -> bool:
    """Whether somebody may write to the file.

    :raises OSError: it cannot be opened.
    """
    return _is_held(path, _WRITER)


def has_user(path: Path) -> bool:
    """Whether somebody has the file open as a disk.

    :raises OSError: it cannot be opened.
    """
    return _is_held(path, _READER) or has_writer(path)


def _is_held(path: Path, byte: int) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        (kind, *_) = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question))
    finally:
        os.close(fd)
    return bool(kind != fcntl.F_UNLCK)


def _noted(path: Path) -> str | None:
    """What the note says, if there is one: NFS's clients remember for a while that there is none, but ask who opens."""
    try:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return _note(path).read_text().strip()
    except FileNotFoundError:
        return None


def _write_note(path: Path, owner: str) -> None:
    """All of it, or none; two hosts may do so at once."""
    note, host = _note(path), owner.partition(_INSTANCE)[0]
    part = note.with_name(f"{note.name}.{host}{PART_SUFFIX}")
    part.write_text(f"{owner}\n")
    part.replace(note)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")
