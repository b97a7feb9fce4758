"""Guests' consoles, carried from QEMU's memory to disk by one thread."""

from __future__ import annotations

import logging
import threading

from compute_agent.virt.process.console_log import ConsoleLog
from compute_agent.virt.process.console_ring import ConsoleRing

LOG = logging.getLogger(__name__)

_INTERVAL = 0.25
"""Seconds between two rounds: a ring lasts longer than that."""


class Console:
    """One running guest's console. Safe to be used from several threads."""

    def __init__(self, ring: ConsoleRing, log: ConsoleLog) -> None:
        self._ring = ring
        self._log = log
        self._lock = threading.Lock()
        self._open = True
        self._failing = False

    def let_write(self) -> None:
        """QEMU has opened its log: from now on what it writes is kept."""
        with self._lock:
            if self._open:
                self._ring.let_write()

    def drain(self) -> None:
        """Carry over what is new; what cannot be written to disk is dropped, for the guest must not wait."""
        with self._lock:
            if self._open and (new := self._ring.take()):
                self._keep(new)

    def close(self) -> None:
        """Carry over the rest and let go of the ring."""
        self.drain()
        with self._lock:
            if self._open:
                self._open = False
                self._ring.close()

    def _keep(self, data: bytes) -> None:
        try:
            self._log.append(data)
            self._failing = False
        except OSError as error:
            if not self._failing:
                LOG.warning("A console's output is dropped: %s", error)
            self._failing = True


class ConsoleDrain:
    """The thread that empties every open console's ring in time."""

    def __init__(self) -> None:
        self._consoles: set[Console] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-drain", daemon=True)
        self._thread.start()

    def add(self, console: Console) -> None:
        with self._lock:
            self._consoles.add(console)

    def remove(self, console: Console) -> None:
        """Close it, with all that its guest wrote on disk."""
        with self._lock:
            self._consoles.discard(console)
        console.close()

    def close(self) -> None:
        """End the thread and close every console."""
        self._stop.set()
        self._thread.join()
        for console in list(self._consoles):
            self.remove(console)

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            with self._lock:
                consoles = list(self._consoles)
            for console in consoles:
                console.drain()
