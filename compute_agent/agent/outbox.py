"""Delivers what the journal's outbox holds, in order, as often as it takes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from compute_agent.agent.journal import Journal
from compute_agent.errors import ComputeAgentError
from compute_agent.instance.view import Notification

LOG = logging.getLogger(__name__)

BATCH = 100
LONGEST_PAUSE = 10.0

Publish = Callable[[Notification], None]


class Outbox:
    """One thread that publishes. A notification is delivered at least once: twice, if the agent dies in between."""

    def __init__(self, journal: Journal, publish: Publish) -> None:
        """`publish` raises `ComputeAgentError` where the broker did not take it."""
        self._journal = journal
        self._publish = publish
        self._published = 0
        """The last one's number: it is not published again if only the journal does not know of it."""
        self._wake = Event()
        self._closed = Event()
        self._thread = Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def close(self, seconds: float) -> None:
        """Stop; what was not delivered is delivered by the next agent."""
        self._closed.set()
        self._wake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        pause = 0.1
        while not self._closed.is_set():
            self._wake.clear()
            try:
                self._deliver()
                pause = 0.1
                self._wake.wait()
            except ComputeAgentError as error:
                LOG.warning("Notifications wait: %s", error)
                pause = self._rest(pause)
            except Exception:  # the thread's edge: a defect of ours must not keep the next ones from being delivered
                LOG.exception("Notifications wait, and nobody foresaw why")
                pause = self._rest(pause)

    def _rest(self, pause: float) -> float:
        """How long the next rest is."""
        pause = min(pause * 2, LONGEST_PAUSE)
        self._closed.wait(pause)
        return pause

    def _deliver(self) -> None:
        while batch := self._journal.waiting_notifications(BATCH):
            for sequence, notification in batch:
                if self._closed.is_set():
                    return
                if sequence > self._published:
                    self._publish(notification)
                    self._published = sequence
                self._journal.remove_notification(sequence)
