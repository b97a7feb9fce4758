"""Whether a file system answers: one of another host, which is silent, keeps whoever asks it for anything waiting."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.host.mounts import mount_holding

_SECONDS = 5.0
"""Less than a caller waits for the answer to an order."""


class Answers:
    """For many threads. Of all that ask one file system in vain, one alone waits for longer than `seconds`."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Thread] = {}

    def require(self, path: Path) -> None:
        """See that the path's file system answers. Links on the way to it are not followed.

        :raises StorageError: it does not.
        """
        point = mount_holding(path).point
        asking = self._ask(point)
        asking.join(self._seconds)
        if asking.is_alive():
            raise StorageError(f"{path}: the file system at {point} does not answer within {self._seconds:g} s")

    def _ask(self, point: str) -> threading.Thread:
        """Who does it: the last one, if that is still at it."""
        with self._lock:
            asking = self._asking.get(point)
            if asking is None or not asking.is_alive():
                asking = threading.Thread(target=_look, args=(point,), name=f"look at {point}", daemon=True)
                asking.start()
                self._asking[point] = asking
            return asking


def _look(point: str) -> None:
    """No client of a server answers this one from memory."""
    with suppress(OSError):
        os.statvfs(point)
