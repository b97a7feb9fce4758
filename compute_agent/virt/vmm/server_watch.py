"""The thread that notices when a disk's server has gone."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Mapping


class ServerWatch:
    """Tells of each server once."""

    def __init__(self, gone: Callable[[str], None]) -> None:
        """:param gone: is told a disk's name, on the thread of the watch."""
        self._gone = gone
        self._watched: Mapping[str, int] = {}
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="server-watch", daemon=True)
        self._thread.start()

    def watch(self, connections: Mapping[str, int]) -> None:
        """By disk; the descriptors that are to be watched from now on. Negative ones are not."""
        self._watched = {name: fd for name, fd in connections.items() if fd >= 0}
        os.eventfd_write(self._changed, 1)

    def _run(self) -> None:
        while True:
            watched = self._watched
            gone = self._wait(watched)
            if self._changed in gone:
                os.eventfd_read(self._changed)
                continue
            self._watched = {name: fd for name, fd in watched.items() if fd not in gone}
            for name in (name for name, fd in watched.items() if fd in gone):
                self._gone(name)

    def _wait(self, watched: Mapping[str, int]) -> set[int]:
        """Those that have hung up, or `_changed`."""
        poll = select.poll()
        poll.register(self._changed, select.POLLIN)
        for fd in watched.values():
            poll.register(fd, select.POLLRDHUP)  # what it answers is read by who asks
        return {fd for fd, _ in poll.poll()}
