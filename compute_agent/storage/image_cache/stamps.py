"""When a cached file was last found to be what its name says, and what it looked like then.

A file that looks the same is taken for the same until the next whole verification is due: reading all of an image
takes seconds, looking at it microseconds.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from threading import Lock

import msgspec

from compute_agent.host.durable import part_of
from compute_agent.instance.preparation import prepare


class _Stamp(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int
    verified_at: float


prepare(_Stamp)


class ImageStamps:
    """A small file in `directory` for each cached one; `directory` is made when it is not there."""

    def __init__(self, directory: Path, verify_interval: float) -> None:
        """Whole verifications are due after `verify_interval` seconds; 0: never."""
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._interval = verify_interval
        self._writing = Lock()

    def looks_sound(self, file: Path) -> bool:
        """It looks as it did when it was verified, and that is not too long ago."""
        try:
            stamp = msgspec.json.decode(self._path(file).read_bytes(), type=_Stamp)
            if _look(file, stamp.verified_at) != stamp:
                return False
        except (FileNotFoundError, msgspec.DecodeError):  # a crash came first
            return False
        # A negative age: the world's clock has been set back.
        return self._interval == 0 or 0 <= time.time() - stamp.verified_at < self._interval

    def write(self, file: Path, content: Path) -> None:
        """Remember that `content`, which is the file or is about to get its name, has just been verified."""
        part = part_of(self._path(file))
        with self._writing:
            part.write_bytes(msgspec.json.encode(_look(content, time.time())))
            part.rename(self._path(file))

    def forget(self, file: Path) -> None:
        """The file has lost its name."""
        self._path(file).unlink(missing_ok=True)

    def _path(self, file: Path) -> Path:
        return self._directory / file.name


def has_checksum(file: Path, checksum: str) -> bool:
    """Whether all of the file's content is what it should be: ``sha256:…``."""
    algorithm, _, expected = checksum.partition(":")
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest() == expected


def _look(file: Path, verified_at: float) -> _Stamp:
    status = file.stat()
    return _Stamp(status.st_size, status.st_mtime_ns, status.st_ino, verified_at)
