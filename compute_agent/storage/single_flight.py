"""One run of some work for all who want it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class SingleFlight:
    """Work under names; a name lives only as long as its work runs."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[str, Future[None]] = {}

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do the work, or wait for the thread that does it; it ends in the same way for both."""
        mine: Future[None] = Future()
        with self._guard:
            running = self._running.setdefault(name, mine)
        if running is not mine:
            return running.result()
        try:
            work()
            mine.set_result(None)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._guard:
                del self._running[name]
