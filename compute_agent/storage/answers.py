"""Whether a file system answers: one of another host, which is silent, keeps whoever asks it for anything waiting."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.host.mounts import mount_holding

_SECONDS = 5.0
"""Less than a caller waits for the answer to an order."""


class _Question(threading.Thread):
    """To the file system at `point`, which has until `due` to answer."""

    def __init__(self, point: str, due: float) -> None:
        super().__init__(name=f"look at {point}", daemon=True)
        self.due = due
        self._point = point

    def run(self) -> None:
        """No client of a server answers this one from memory."""
        with suppress(OSError):
            os.statvfs(self._point)


class Answers:
    """For many threads. Who asks one that has been silent for longer than `seconds` does not wait."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked: dict[str, _Question] = {}

    def require(self, path: Path) -> None:
        """See that the path's file system answers. Links on the way to it are not followed.

        :raises StorageError: it does not.
        """
        point = mount_holding(path).point
        question = self._ask(point)
        question.join(max(0.0, question.due - time.monotonic()))
        if question.is_alive():
            raise StorageError(f"{path}: the file system at {point} does not answer within {self._seconds:g} s")

    def _ask(self, point: str) -> _Question:
        """The last question, if that has no answer yet."""
        with self._lock:
            question = self._asked.get(point)
            if question is None or not question.is_alive():
                question = self._asked[point] = _Question(point, time.monotonic() + self._seconds)
                question.start()
            return question
