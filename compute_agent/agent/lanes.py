"""One job at a time for each instance, in order of arrival; any number for different instances."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import BoundedSemaphore, Condition, Thread

LOG = logging.getLogger(__name__)

Job = Callable[[], None]


class Lanes:
    """A lane and its thread exist only while it has jobs, so nothing grows with uptime.

    The threads are daemons: an agent that is told to stop does not wait for a guest that takes a minute to
    shut down; the next agent goes on from the journal.
    """

    def __init__(self, workers: int) -> None:
        """At most `workers` lanes move at once; the others wait."""
        self._slots = BoundedSemaphore(workers)
        self._changed = Condition()
        self._waiting: dict[str, deque[Job]] = {}
        self._closed = False

    def submit(self, lane: str, job: Job) -> None:
        """Run `job` after those that were submitted to this lane before. Ignored when closed: the journal has it."""
        with self._changed:
            if self._closed:
                return
            if lane in self._waiting:
                self._waiting[lane].append(job)
                return
            self._waiting[lane] = deque([job])
        Thread(target=self._run, args=(lane,), name=f"lane-{lane[:8]}", daemon=True).start()

    def _run(self, lane: str) -> None:
        with self._slots:
            while job := self._next(lane):
                try:
                    job()
                except Exception:
                    LOG.exception("A job failed in a way that nobody foresaw")

    def _next(self, lane: str) -> Job | None:
        with self._changed:
            if self._waiting[lane] and not self._closed:
                return self._waiting[lane].popleft()
            del self._waiting[lane]
            self._changed.notify_all()
            return None

    def close(self, seconds: float) -> None:
        """Start nothing more, and give what runs a moment to end."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._waiting, seconds)
