"""One job at a time for each instance, in order of arrival; any number for different instances."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Condition, Thread

from compute_agent.errors import JournalError

LOG = logging.getLogger(__name__)

Job = Callable[[], None]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts while the journal cannot be written."""


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
                    self.insist(job)
                except Exception:
                    LOG.exception("A job failed in a way that nobody foresaw")

    def insist(self, job: Job) -> None:
        """Do it, and again from its beginning as long as the journal cannot be written, or read."""
        pause = SHORTEST_PAUSE
        while not self._closed:
            try:
                job()
            except JournalError as error:
                LOG.error("This waits %.1f s: %s", pause, error)
                self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    @contextmanager
    def resting(self) -> Iterator[None]:
        """The lane that enters this waits for something: another one moves meanwhile."""
        self._slots.release()
        try:
            yield
        finally:
            self._slots.acquire()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

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
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting, seconds)
