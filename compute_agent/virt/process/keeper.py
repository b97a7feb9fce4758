"""All guests that run here, with the threads that look after them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from compute_agent.host.process_watch import ProcessWatch
from compute_agent.host.processes import Process
from compute_agent.host.qmp import MonitorLoop
from compute_agent.instance.machine import HypervisorName
from compute_agent.virt.contract import DiskFailure, GuestExit, OnDiskFailure, OnGuestExit
from compute_agent.virt.process.console import Console, ConsoleDrain
from compute_agent.virt.process.console_log import ConsoleLog
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.guest import Common, ProcessGuest
from compute_agent.virt.process.identity import find_guests
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.settings import VirtSettings

G = TypeVar("G", bound=ProcessGuest)
MakeGuest = Callable[[str, Process, Console | None, Common], G]
News = TypeVar("News", GuestExit, DiskFailure)

LOG = logging.getLogger(__name__)


class GuestKeeper(Generic[G]):
    """Knows each guest of one hypervisor by its instance's uuid, as long as its process lives.

    Only this agent starts guests, so /proc is searched once, for those of its predecessor.
    """

    def __init__(
        self,
        settings: VirtSettings,
        hypervisor: HypervisorName,
        make_guest: MakeGuest[G],
        on_exit: OnGuestExit,
        on_disk_failure: OnDiskFailure,
    ) -> None:
        self._settings = settings
        self._hypervisor = hypervisor
        self._make_guest = make_guest
        self._lock = threading.Lock()
        self._guests: dict[str, G] = {}
        self._left_behind: dict[str, Process] | None = None
        self._loop = MonitorLoop()
        self._common = Common(
            settings, self._loop, partial(self._announce, on_exit), partial(self._announce, on_disk_failure)
        )
        self._watch = ProcessWatch()
        self._drain = ConsoleDrain()
        self._messenger = ThreadPoolExecutor(1, "guest-news")

    def uuids(self) -> set[str]:
        """The instances that have a process."""
        with self._lock:
            return {*self._guests, *self._predecessors()}

    def pids(self) -> set[int]:
        """Of all these processes."""
        with self._lock:
            adopted = {guest.pid for guest in self._guests.values()}
            return adopted | {process.pid for process in self._predecessors().values()}

    def get(self, instance_uuid: str) -> G | None:
        """The guest of that instance; one that a predecessor started is adopted."""
        with self._lock:
            process = self._predecessors().pop(instance_uuid, None)
            if process is not None:
                self._adopt(instance_uuid, process)
            return self._guests.get(instance_uuid)

    def add(self, instance_uuid: str, process: Process, ring: ConsoleRing) -> G:
        """Look after a guest that is being started."""
        with self._lock:
            return self._keep(instance_uuid, process, ring)

    def close(self) -> None:
        """Let go of every guest without touching it."""
        self._watch.close()
        for guest in self._guests.values():
            guest.let_go()
        self._loop.close()
        self._drain.close()
        self._messenger.shutdown()

    def _predecessors(self) -> dict[str, Process]:
        if self._left_behind is None:
            self._left_behind = find_guests(self._settings, self._hypervisor)
        return self._left_behind

    def _adopt(self, instance_uuid: str, process: Process) -> None:
        try:
            ring = ConsoleRing.of(process)
        except OSError as error:
            LOG.warning("The console of guest %s is not logged: %s", instance_uuid, error)
            ring = None
        self._keep(instance_uuid, process, ring).watch_over()

    def _keep(self, instance_uuid: str, process: Process, ring: ConsoleRing | None) -> G:
        console = self._open_console(instance_uuid, ring) if ring else None
        guest = self._make_guest(instance_uuid, process, console, self._common)
        self._guests[instance_uuid] = guest
        self._watch.watch(process, partial(self._clear_away, guest))
        return guest

    def _open_console(self, instance_uuid: str, ring: ConsoleRing) -> Console:
        path = GuestPaths.of(self._settings, instance_uuid).console_log
        console = Console(ring, ConsoleLog(path, self._settings.console_log_size))
        self._drain.add(console)
        return console

    def _clear_away(self, guest: G) -> None:
        if guest.console is not None:
            self._drain.remove(guest.console)
        with self._lock:
            del self._guests[guest.instance_uuid]
        guest.ended()

    def _announce(self, listener: Callable[[News], None], news: News) -> None:
        # In a thread of its own: the listener may take its time, and may ask the guest.
        self._messenger.submit(_deliver, listener, news)


def _deliver(listener: Callable[[News], None], news: News) -> None:
    try:
        listener(news)
    except Exception:
        # The outermost edge of this thread: others have to be told of other guests.
        LOG.exception("Nobody was told: %s", news)
