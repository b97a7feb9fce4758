"""What the `ovs` library calls a poller, on poll(2).

Its own stands on select(2), which ends at descriptor 1023: an agent with many guests gets there.
"""

from __future__ import annotations

import select
import socket


class Poller:
    """Collects what to wake up for, then waits once; `events` are poll(2)'s, as in the library."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}
        self._timeout_ms: float | None = None

    def fd_wait(self, fd: int | socket.socket, events: int) -> None:
        """Wake up for `events` too: the library registers reading and writing one after the other."""
        number = fd if isinstance(fd, int) else fd.fileno()
        self._events[number] = self._events.get(number, 0) | events

    def timer_wait(self, msec: float) -> None:
        """Wake up after `msec` milliseconds at the latest."""
        self._timeout_ms = max(0.0, msec if self._timeout_ms is None else min(self._timeout_ms, msec))

    def immediate_wake(self) -> None:
        """Do not wait at all."""
        self.timer_wait(0)

    def block(self) -> None:
        """Wait for the first of it."""
        poll = select.poll()
        for number, events in self._events.items():
            poll.register(number, events)
        poll.poll(self._timeout_ms)
