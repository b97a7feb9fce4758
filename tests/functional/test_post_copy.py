"""A guest goes on in another QEMU before all of its memory is there: on real QEMU; both are of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from compute_agent.errors import MonitorError
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import Guest, StartRequest
from compute_agent.virt.migration import Pace
from compute_agent.virt.settings import VirtSettings
from tests.functional.test_encrypted_moves import encrypted
from tests.processes.virt.conftest import (
    UUID,
    MakeHypervisor,
    directory,
    exits,
    hypervisor,
    make_hypervisor,
    settings,
)
from tests.processes.virt.test_migration import Sides, request_, there, waiting, with_layers
from tests.unit.virt.waiting import DEADLINE, start_up, until

__all__ = ["directory", "exits", "hypervisor", "make_hypervisor", "request_", "settings", "there"]

KEY, NEXT_KEY = "ab" * 32, "cd" * 32
SLOW, FAST = Pace(bandwidth=64 << 10, downtime=0.001), Pace(downtime=0.001)


class Link:
    """Between two processes; it can be cut."""

    def __init__(self) -> None:
        self.here, ours = _connected()
        self.there, theirs = _connected()
        self._ends = (ours, theirs)
        for pair in (self._ends, self._ends[::-1]):
            threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, destination: socket.socket) -> None:
        with suppress(OSError):  # it has been cut
            while data := source.recv(1 << 16):
                destination.sendall(data)
        self.cut()

    def handed_over(self) -> None:
        """The processes have it, and nobody else."""
        self.here.close()
        self.there.close()

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):  # it has been cut before
                end.shutdown(socket.SHUT_RDWR)


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


@pytest.fixture
def here(make_hypervisor: MakeHypervisor, request_: StartRequest) -> Guest:
    return start_up(make_hypervisor(), request_)


@pytest.fixture
def link(here: Guest, there: Guest) -> Iterator[Link]:
    with halfway(here, there) as link:
        yield link


@contextmanager
def halfway(here: Guest, there: Guest) -> Iterator[Link]:
    """The guest stands still in one process, and may go on in the other."""
    link = Link()
    with socket.create_server(("127.0.0.1", 0)) as disks:
        there.incoming.use_key(KEY)
        there.incoming.let_disks_in(disks.fileno(), ["disk0"])
        there.incoming.let_memory_in(link.there.fileno())
        with closing(socket.create_connection(disks.getsockname())) as disk:
            target = NbdSource(export="disk0", fd=disk.fileno())
            here.outgoing.begin(link.here.fileno(), {"disk0": target}, SLOW, KEY, post_copy=True)
    link.handed_over()
    until_halfway(here, there)
    try:
        yield link
    finally:
        link.cut()


def until_halfway(here: Guest, there: Guest) -> None:
    until(lambda: here.outgoing.advance(1.0).stage == "memory")
    here.outgoing.start_post_copy()
    until(lambda: here.outgoing.advance(1.0).stage == "rest")
    until(there.incoming.is_complete)


def go_on(there: Guest) -> None:
    there.incoming.shut_disks()
    there.resume()
    there.incoming.announce()


def mend(here: Guest, there: Guest) -> None:
    """As two agents do."""
    link = Link()
    there.incoming.use_key(NEXT_KEY)
    there.incoming.take_connection(link.there.fileno())
    with ThreadPoolExecutor(1) as agent_there:
        fetching = agent_there.submit(lambda: link.there.recv(1, socket.MSG_PEEK) and there.incoming.fetch_rest())
        here.outgoing.reconnect(link.here.fileno(), NEXT_KEY)
        fetching.result(DEADLINE)
    link.handed_over()
    until(lambda: here.outgoing.advance(1.0).stage == "rest")


def arrive(here: Guest, there: Guest) -> None:
    here.outgoing.set_pace(FAST)
    until(lambda: here.outgoing.advance(1.0).stage == "complete")
    until(lambda: there.incoming.rest() == "here")
    assert there.status() is PowerState.RUNNING


def test_it_runs_while_the_rest_comes(here: Guest, there: Guest, link: Link) -> None:
    assert (here.status(), there.status()) == (PowerState.PAUSED, PowerState.PAUSED), "nobody has let it run yet"
    go_on(there)
    assert (here.status(), there.status()) == (PowerState.PAUSED, PowerState.RUNNING)
    assert there.incoming.rest() == "comes"
    with pytest.raises(MonitorError):
        here.resume()
    arrive(here, there)


@pytest.mark.parametrize("kind", [with_layers, encrypted])
def test_disks_of_other_kinds_are_there_when_it_goes_on(
    make_hypervisor: MakeHypervisor,
    settings: VirtSettings,
    request_: StartRequest,
    directory: Path,
    kind: Callable[[StartRequest, Path], Sides],
) -> None:
    sides = kind(request_, directory)
    here = start_up(make_hypervisor(), sides.here)
    with waiting(settings, sides.there) as there:
        with halfway(here, there):
            go_on(there)
            assert there.incoming.rest() == "comes"
            here.kill()
            there.kill()
        sides.assert_same()


def test_the_connection_is_lost_twice_and_the_rest_comes_over_others(
    make_hypervisor: MakeHypervisor, here: Guest, there: Guest, link: Link
) -> None:
    go_on(there)
    link.cut()
    until(lambda: here.outgoing.advance(0).stage == "cut_off" and there.incoming.rest() == "cut_off")
    assert there.status() is PowerState.RUNNING
    mend(here, there)
    adopted = make_hypervisor().adopt(UUID)
    assert adopted is not None
    assert adopted.outgoing.advance(0).stage in ("rest", "complete"), "the next agent finds it as it is"
    arrive(adopted, there)


@pytest.mark.parametrize("how", ["it is alive", "the connection is lost", "its process has died"])
def test_one_that_is_not_wanted_there_goes_on_here(here: Guest, there: Guest, link: Link, how: str) -> None:
    if how == "its process has died":
        there.kill()
    if how != "it is alive":
        link.cut()
        until(lambda: here.outgoing.advance(0).stage == "cut_off")
    here.outgoing.cancel()
    here.outgoing.cancel()
    here.resume()
    assert here.status() is PowerState.RUNNING
    with pytest.raises(MonitorError):
        here.outgoing.advance(0)
