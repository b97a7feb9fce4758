"""Operations end, and somebody waits for that: another guest for its turn, or whoever asked for the operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition

AT_ONCE = 16
"""Questions that wait for an end: each has one of the threads that answer all of them."""


class Ends:
    """Methods may be called from any thread."""

    def __init__(self) -> None:
        self._ended = Condition()
        self._asking = 0
        self._closed = False

    def wake(self) -> None:
        """Something has ended, or is not wished any more."""
        with self._ended:
            self._ended.notify_all()

    def close(self) -> None:
        """Questions are answered at once from now on."""
        with self._ended:
            self._closed = True
            self._ended.notify_all()

    def wait(self, seconds: float) -> None:
        """Until something has ended, or this time is over."""
        with self._ended:
            self._ended.wait(seconds)

    def wait_for(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Until that has ended, or this time is over; not at all where too many wait so already."""
        due = time.monotonic() + seconds
        with self._ended:
            if self._asking >= AT_ONCE:
                return
            self._asking += 1
            try:
                while not self._closed and (left := due - time.monotonic()) > 0 and not is_over():
                    self._ended.wait(left)
            finally:
                self._asking -= 1
