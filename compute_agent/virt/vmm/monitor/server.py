"""The thread that serves a machine's monitor: one client at a time, as with QEMU; the next one waits in the socket."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping

from compute_agent.virt.vmm.monitor.command import Commands
from compute_agent.virt.vmm.monitor.session import Session

_MICROSECONDS = 1_000_000


class MonitorServer:
    """Serves as soon as it is made. Events come from any thread, and are lost where no client is."""

    def __init__(self, listener: socket.socket, commands: Commands, version: Mapping[str, object]) -> None:
        """`listener` listens already and belongs to the server; `version` is what the greeting says."""
        self._listener = listener
        self._commands = commands
        self._greeting = {"version": version, "capabilities": []}
        self._events: deque[Mapping[str, object]] = deque()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._session: Session | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def tell(self, event: str, data: Mapping[str, object] | None = None) -> None:
        """Send an event, with the time that it is now."""
        seconds, microseconds = divmod(time.time_ns() // 1000, _MICROSECONDS)
        stamp = {"seconds": seconds, "microseconds": microseconds}
        self._events.append({"event": event, "data": data or {}, "timestamp": stamp})
        os.eventfd_write(self._woken, 1)

    def close(self) -> None:
        """Send what is still to be sent, where the client takes it, and hang up. Not to be called by a command."""
        self._is_closed = True
        os.eventfd_write(self._woken, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._woken)

    def _run(self) -> None:
        while not self._is_closed:
            ready = self._wait()
            if self._woken in ready:
                os.eventfd_read(self._woken)
            if self._listener.fileno() in ready:
                self._session = Session(self._listener.accept()[0], self._commands, self._greeting)
            if self._session is not None and not self._serve(self._session, ready):
                self._session.close()
                self._session = None
        if self._session is not None:
            self._session.close()

    def _serve(self, session: Session, ready: Mapping[int, int]) -> bool:
        """False: this client is done with."""
        happened = ready.get(session.client.fileno(), 0)
        goes_on = session.read() if happened & ~select.POLLOUT else True
        while self._events:
            session.tell(self._events.popleft())
        return session.write() and goes_on

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._session is None:
            self._events.clear()
            poll.register(self._listener, select.POLLIN)
        else:
            wanted = select.POLLIN | (select.POLLOUT if self._session.wants_to_write else 0)
            poll.register(self._session.client, wanted)
        return dict(poll.poll())
