"""The console log of a guest on disk: two files that together never pass their limit."""

from __future__ import annotations

from pathlib import Path


class ConsoleLog:
    """The newest output in `path`, what was before it in ``<path>.1``; each at most half of `limit` bytes."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._half = limit // 2

    def append(self, data: bytes) -> None:
        """Add `data`; the oldest output goes where there is no room for both.

        :raises OSError: the disk is full, or the directory is gone.
        """
        data = data[-self._half :]
        if self._path.exists() and self._path.stat().st_size + len(data) > self._half:
            self._path.rename(self._older)
        with self._path.open("ab") as file:
            file.write(data)

    def tail(self, length: int) -> bytes:
        """The last `length` bytes, or all where there are fewer."""
        newest = _tail(self._path, length)
        return _tail(self._older, length - len(newest)) + newest


def _tail(path: Path, length: int) -> bytes:
    if length <= 0 or not path.exists():
        return b""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - length, 0))
        return file.read(length)
