"""One thread that sees processes end, however many there are."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

from compute_agent.host.processes import Process

LOG = logging.getLogger(__name__)


class ProcessWatch:
    """Calls back from its thread as soon as a watched process has ended; children are reaped before.

    After that the process is released.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Process, Callable[[], None]]] = {}
        self._stop = os.eventfd(0)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="process-watch", daemon=True)
        self._thread.start()

    def watch(self, process: Process, on_end: Callable[[], None]) -> None:
        """Call `on_end` once, when the process ends (or soon, if it has ended)."""
        self._watched[process.pidfd] = (process, on_end)
        self._epoll.register(process.pidfd, select.EPOLLIN)

    def close(self) -> None:
        """Watch no longer; the processes go on."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._watched.clear()
        self._epoll.close()
        os.close(self._stop)

    def _run(self) -> None:
        while True:
            ready = [fd for fd, _ in self._epoll.poll()]
            if self._stop in ready:
                return
            for fd in ready:
                self._ended(fd)

    def _ended(self, pidfd: int) -> None:
        self._epoll.unregister(pidfd)
        process, on_end = self._watched.pop(pidfd)
        process.has_ended()
        try:
            on_end()
        except Exception:
            # The outermost edge of this thread: it must go on for the other processes.
            LOG.exception("Handling the end of process %d failed", process.pid)
        process.release()
