"""Bringing a source file to this node: where it may come from, how long it may take, that it is the right one."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from compute_agent.errors import InvalidImage, StorageError
from compute_agent.instance.block_device import SourceFile
from compute_agent.storage import http
from compute_agent.storage.contract import Progress
from compute_agent.storage.files import require_space
from compute_agent.storage.settings import StorageSettings

_CHUNK = 1024 * 1024
_FILE = "file://"


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def download(source: SourceFile, target: Path, settings: StorageSettings, progress: Progress) -> None:
    """Copy the source to `target` and verify it. Whatever is raised, `target` may be left incomplete.

    :raises InvalidImage: of ``url`` or ``checksum``: it may not be read from there, or is something else.
    :raises InsufficientResources: it would leave less than the reserved space.
    :raises StorageError: it cannot be read, not all of it, or not in time.
    """
    algorithm = source.checksum.partition(":")[0]
    digest = hashlib.new(algorithm)
    received = 0
    with target.open("wb") as file, closing(_read(source.url, settings)) as chunks:
        for chunk, total in chunks:
            still = len(chunk) if total is None else max(len(chunk), total - received)
            require_space(target.parent, still, settings.reserved_space)
            file.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress(received * 100 // total if total else 0)
    found = f"{algorithm}:{digest.hexdigest()}"
    if found != source.checksum:
        raise InvalidImage(
            "checksum", source.checksum, f"the content of {http.without_secrets(source.url)} has {found}"
        )


def _read(url: str, settings: StorageSettings) -> Generator[tuple[bytes, int | None], None, None]:
    """The content in chunks, each with the size of the whole where the source tells it.

    A generator, so that what fails while writing is not mistaken for what fails while reading.
    """
    deadline = time.monotonic() + settings.download_timeout
    shown = http.without_secrets(url)
    received = 0
    try:
        with _open(url, settings, deadline) as (stream, total):
            while chunk := stream.read1(_CHUNK):
                received += len(chunk)
                yield chunk, total
                if time.monotonic() > deadline:
                    break
    except (OSError, HTTPException, UnicodeError) as error:  # the last: a host name that is none
        if time.monotonic() <= deadline:
            raise StorageError(f"{shown} cannot be read: {error}") from error
    if time.monotonic() > deadline:
        raise StorageError(f"{shown} did not arrive within {settings.download_timeout:g} s")
    if total is not None and received < total:
        raise StorageError(f"{shown} ended after {received} of {total} bytes")


@contextmanager
def _open(url: str, settings: StorageSettings, deadline: float) -> Iterator[tuple[_Stream, int | None]]:
    if url.startswith(_FILE):
        with os.fdopen(_open_file(url, settings.image_sources), "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    else:
        with http.get(url, settings.connect_timeout, deadline) as response:
            yield response, response.length


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
