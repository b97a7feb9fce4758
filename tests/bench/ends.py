"""A controller that hears of the end of what it asked for, as controllers do: nobody asks again and again."""

from __future__ import annotations

from collections import defaultdict
from queue import SimpleQueue

from compute_agent.instance.view import Accepted, Notification
from compute_agent.rpc.notifications import listen
from compute_agent.rpc.transport import connect

PATIENCE = 120.0
"""Seconds for one operation."""


class Ends:
    """Listens from when it is made until `close`."""

    def __init__(self, transport_url: str) -> None:
        self._ended: defaultdict[str, SimpleQueue[str]] = defaultdict(SimpleQueue)
        self._listener = listen(connect(transport_url), self._hear)

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()
        self._listener.wait()

    def await_end(self, accepted: Accepted) -> None:
        """Wait for the end of an operation that has to succeed."""
        assert self._ended[accepted.request_id].get(timeout=PATIENCE) == "end"
        del self._ended[accepted.request_id]

    def _hear(self, notification: Notification) -> None:
        phase = notification.event_type.rpartition(".")[2]
        if phase in ("end", "error"):
            self._ended[str(notification.payload["request_id"])].put(phase)
