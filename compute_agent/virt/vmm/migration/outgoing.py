"""A machine on its way to another host's process: its memory while it runs, then the rest while it stands still."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from compute_agent.errors import MigrationFailed, MonitorError
from compute_agent.virt.kvm.pages import PageSet
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.migration.batch import Batch
from compute_agent.virt.vmm.migration.parameters import Wishes
from compute_agent.virt.vmm.migration.progress import Progress
from compute_agent.virt.vmm.migration.stream import Kind, Reader, Writer

ANSWER_SECONDS = 60.0
"""For the other host's process, which has all of the machine and puts it together."""
_SILENCE_SECONDS = 60.0
"""In which the connection takes nothing."""


class Mover(Protocol):
    """The machine."""

    ram: GuestRam

    def still(self) -> AbstractContextManager[bool]:
        """Hold this, and whether it runs does not change meanwhile."""

    def halt(self) -> None:
        """It stands still when this returns.

        :raises MonitorError: it does for another reason, and cannot be carried.
        """

    def track(self, on: bool) -> None:
        """Keep a log of the pages that are written, or not any more. May be repeated."""

    def touched(self) -> PageSet:
        """All pages that may be something else than zeros."""

    def written(self, pages: PageSet | None = None) -> PageSet:
        """Those since the last time; added to `pages` where there are some."""

    def state(self) -> bytes:
        """All but its memory, while it stands still."""

    def has_gone(self) -> None:
        """All of it is there."""


class Outgoing:
    """A `compute_agent.virt.vmm.carrier.Load`."""

    def __init__(self, machine: Mover, connection: socket.socket, wishes: Wishes, tell: Callable[[str], None]) -> None:
        """It owns the connection; `tell` hears of a state that somebody waits for."""
        self.holds_still = False
        self._machine = machine
        self._connection = connection
        self._wishes = wishes
        self._tell = tell
        self._progress = Progress(machine.ram.size, wishes)
        self._writer = Writer(connection, self._carried)
        self._may_go_on = threading.Event()
        self._is_waiting = self._is_cancelled = False
        connection.settimeout(_SILENCE_SECONDS)

    def carry(self) -> None:
        try:
            self._carry()
        except OSError:
            self._require_wanted()
            raise
        finally:
            self._machine.track(False)
            self.holds_still = False
            self._connection.close()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._may_go_on.set()
        with suppress(OSError):  # it is not connected any more
            self._connection.shutdown(socket.SHUT_RDWR)

    def go_on(self) -> None:
        """What is done while it stands still is done.

        :raises MonitorError: nobody waits for that.
        """
        if not self._is_waiting:
            raise MonitorError("the migration does not wait")
        self._may_go_on.set()

    def describe(self) -> Mapping[str, object]:
        return {**self._progress.describe(), **({"status": "pre-switchover"} if self._is_waiting else {})}

    def _carry(self) -> None:
        machine = self._machine
        self._writer.greet(machine.ram.size)
        machine.track(True)
        self._send(machine.touched(), first=True)
        while not self._is_nearly_there(pages := machine.written()):
            self._send(pages)
        with machine.still():
            machine.halt()
            self.holds_still = True
        if self._wishes.pauses:
            self._wait()
        state = machine.state()  # before the last look: what KVM is asked for, it may write to the guest's memory
        self._send(machine.written(pages))
        self._writer.write(Kind.STATE, state)
        self._require_taken()
        machine.has_gone()

    def _is_nearly_there(self, pages: PageSet) -> bool:
        self._progress.begin_round(len(pages))
        return self._progress.is_nearly_there

    def _send(self, pages: PageSet, *, first: bool = False) -> None:
        if first:
            self._progress.begin_round(len(pages))
        Batch(self._writer, self._machine.ram, with_zeros=not first).send(pages.runs())

    def _carried(self, size: int) -> None:
        self._progress.carried(size)
        self._require_wanted()
        while (nap := self._progress.nap) > 0:
            time.sleep(nap)
            self._require_wanted()

    def _wait(self) -> None:
        self._is_waiting = True
        self._tell("pre-switchover")
        self._may_go_on.wait()
        self._is_waiting = False
        self._require_wanted()

    def _require_wanted(self) -> None:
        if self._is_cancelled:
            raise InterruptedError("the machine was not to be carried any more")

    def _require_taken(self) -> None:
        self._connection.settimeout(ANSWER_SECONDS)
        kind, reason = Reader(self._connection).read()
        if kind is not Kind.TAKEN:
            raise MigrationFailed(f"the other host refuses it: {bytes(reason).decode(errors='replace')}")
