"""Bringing a source file to this node: where it may come from, how long it may take, that it is the right one."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from io import BufferedRandom
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from compute_agent.errors import InsufficientResources, InvalidImage, StorageError
from compute_agent.instance.block_device import SourceFile
from compute_agent.storage import http
from compute_agent.storage.contract import Progress
from compute_agent.storage.settings import StorageSettings

MakeRoom = Callable[[int], None]
"""Told how many bytes are still to come; raises InsufficientResources."""

_CHUNK = 1024 * 1024
_AHEAD = 8 * _CHUNK
"""Bytes that room is made for at once where nobody knows how many there will be."""
_FILE = "file://"


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Interrupted(StorageError):
    """Reading ended too early; what has arrived is good for another attempt."""


def fetch_file(
    source: SourceFile, target: Path, settings: StorageSettings, make_room: MakeRoom, progress: Progress
) -> None:
    """Copy the source to `target` and verify it, going on where an earlier download of this source stopped.

    What has arrived stays for the next attempt when the source cannot be read to its end; else nothing is left.

    :raises InvalidImage: of ``url`` or ``checksum``: it may not be read from there, or is something else.
    :raises InsufficientResources: there is no room for it.
    :raises StorageError: it cannot be read, not all of it, or not in time.
    """
    deadline = time.monotonic() + settings.download_timeout
    try:
        with target.open("a+b") as file:
            download = _Download(
                source=source, file=file, settings=settings, deadline=deadline, make_room=make_room, progress=progress
            )
            if download.finish() and not _is_right(file, source.checksum):
                # What was there already was spoilt, by a crash for example: all of it again, once.
                file.truncate(0)
                download.finish()
            _require_right(file, source)
    except _Interrupted as error:
        if target.stat().st_size == 0:
            target.unlink()
        raise StorageError(*error.args) from error  # a controller is told the name of the class
    except (InvalidImage, InsufficientResources, StorageError, OSError):
        target.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Download:
    """One file being appended to."""

    source: SourceFile
    file: BufferedRandom
    settings: StorageSettings
    deadline: float
    make_room: MakeRoom
    progress: Progress

    def finish(self) -> bool:
        """Have the whole file, trying again as long as each attempt gets further; True: it was begun earlier."""
        resumed = (furthest := self._size()) > 0
        if resumed and _is_right(self.file, self.source.checksum):
            return True  # only its name was missing
        while True:
            try:
                self._attempt()
                return resumed
            except _Interrupted:
                if self._size() <= furthest or time.monotonic() > self.deadline:
                    raise
                resumed, furthest = True, self._size()

    def _attempt(self) -> None:
        with closing(_read(self.source.url, self.settings, self._size(), self.deadline)) as chunks:
            for chunk, offset, total in chunks:
                if offset < self._size():
                    self.file.truncate(offset)
                self.make_room(max(len(chunk), _AHEAD - offset % _AHEAD if total is None else total - offset))
                self.file.write(chunk)
                self.progress(self._size() * 100 // total if total else 0)

    def _size(self) -> int:
        self.file.flush()
        return os.fstat(self.file.fileno()).st_size


def _is_right(file: BufferedRandom, checksum: str) -> bool:
    return _checksum(file, checksum) == checksum


def _require_right(file: BufferedRandom, source: SourceFile) -> None:
    found = _checksum(file, source.checksum)
    if found != source.checksum:
        shown = http.without_secrets(source.url)
        raise InvalidImage("checksum", source.checksum, f"the content of {shown} has {found}")


def _checksum(file: BufferedRandom, like: str) -> str:
    algorithm = like.partition(":")[0]
    file.seek(0)
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _read(
    url: str, settings: StorageSettings, offset: int, deadline: float
) -> Generator[tuple[bytes, int, int | None], None, None]:
    """The content from `offset` on, or from its start where that cannot be had: in chunks, each with its own offset
    and the size of the whole where the source tells it.

    A generator, so that what fails while writing is not mistaken for what fails while reading.
    """
    shown = http.without_secrets(url)
    received, total = 0, None
    try:
        with _open(url, settings, offset, deadline) as (stream, start, total):
            received = start
            while chunk := stream.read1(_CHUNK):
                yield chunk, received, total
                received += len(chunk)
                if time.monotonic() > deadline:
                    break
    except (OSError, HTTPException, UnicodeError) as error:  # the last: a host name that is none
        if time.monotonic() <= deadline:
            raise _Interrupted(f"{shown} cannot be read: {error}") from error
    if time.monotonic() > deadline:
        raise _Interrupted(f"{shown} did not arrive within {settings.download_timeout:g} s")
    if total is not None and received < total:
        raise _Interrupted(f"{shown} ended after {received} of {total} bytes")


@contextmanager
def _open(
    url: str, settings: StorageSettings, offset: int, deadline: float
) -> Iterator[tuple[_Stream, int, int | None]]:
    """The content, at which offset it begins, and the size of the whole."""
    if url.startswith(_FILE):
        with os.fdopen(_open_file(url, (*settings.image_sources, settings.snapshot_dir)), "rb") as file:
            total = os.fstat(file.fileno()).st_size
            yield file, file.seek(offset if offset < total else 0), total
    else:
        with http.get(url, settings.connect_timeout, deadline, offset) as (response, start):
            yield response, start, None if response.length is None else start + response.length


def _open_file(url: str, directories: Sequence[Path]) -> int:
    """:raises InvalidImage: the same for a file elsewhere, whether it exists or not: nobody learns which."""
    try:
        path = Path(unquote(url.removeprefix(_FILE))).resolve()
        allowed = any(path.is_relative_to(directory.resolve()) for directory in directories)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        allowed = False
    if not allowed:
        places = ", ".join(map(str, directories)) or "nowhere"
        raise InvalidImage("url", url, f"files may come from {places} only")
    # Without O_NONBLOCK opening a FIFO would wait for its writer.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise InvalidImage("url", url, "not a regular file")
