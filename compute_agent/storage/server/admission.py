"""Letting a server's user open a file that belongs to somebody else.

A server cannot be given an open file: it opens each anew (`compute_agent.storage.server.control.Control.lend`). So the
file becomes its user's for as long as that takes, and then is as before. An agent that is killed in between has noted
it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from compute_agent.host.durable import part_of
from compute_agent.instance.preparation import prepare
from compute_agent.storage.server.paths import ServerPaths

_READ, _WRITE = 0o400, 0o200


class _Former(msgspec.Struct, frozen=True):
    """What a file was before."""

    path: str
    device: int
    inode: int
    uid: int
    mode: int


prepare(_Former)


class Admissions:
    """To files of this node, by its servers: to each file one after the other, for many stand on the same image."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[tuple[int, int], threading.Lock] = WeakValueDictionary()

    @contextmanager
    def admitted(self, paths: ServerPaths, path: Path, fd: int, *, read_only: bool) -> Iterator[None]:
        """Let the server's user open the file `fd`, which is at `path`.

        :raises OSError: the file system refuses.
        """
        with self._lock(os.fstat(fd)):
            former = _note(paths.admission, path, os.fstat(fd))
            try:
                os.fchown(fd, paths.owner, -1)
                os.fchmod(fd, former.mode | (_READ if read_only else _READ | _WRITE))
                yield
            finally:
                take_back(paths.admission)

    def _lock(self, status: os.stat_result) -> threading.Lock:
        file = status.st_dev, status.st_ino
        with self._guard:
            lock = self._locks.get(file)
            if lock is None:
                lock = self._locks[file] = threading.Lock()
            return lock


def take_back(note: Path) -> None:
    """The file that `note` says was a server's for a moment is again as it was.

    :raises OSError: the file system refuses.
    """
    former = msgspec.json.decode(note.read_bytes(), type=_Former)
    try:
        fd = os.open(former.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass  # nothing is left to be put right
    else:
        _restore(fd, former)
    note.unlink()


def _restore(fd: int, former: _Former) -> None:
    try:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) == (former.device, former.inode):
            os.fchown(fd, former.uid, -1)
            os.fchmod(fd, former.mode)
    finally:
        os.close(fd)


def _note(note: Path, path: Path, status: os.stat_result) -> _Former:
    former = _Former(str(path), status.st_dev, status.st_ino, status.st_uid, status.st_mode & 0o7777)
    part = part_of(note)
    part.write_bytes(msgspec.json.encode(former))
    part.rename(note)
    return former
