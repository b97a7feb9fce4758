"""Asking the switch, in the tests' words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from compute_agent.errors import NetworkError
from compute_agent.network.ovs.errand import AddPorts, RemovePorts, await_applied
from compute_agent.network.ovs.follower import Follower
from compute_agent.network.ovs.ovsdb import Ovsdb
from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.request import Request
from compute_agent.network.ovs.switch import HOST_MARK, PortRow

from .switch_server import SwitchServer

HOST = "compute-1"


def row(name: str, bridge: str = "br-int", vlan: int | None = None) -> PortRow:
    return PortRow(name=name, bridge=bridge, vlan=vlan, mtu=1450, external_ids={"iface-id": name, HOST_MARK: HOST})


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


def add(ovsdb: Ovsdb, *rows: PortRow, within: float = 10.0) -> None:
    ovsdb.ask(AddPorts(rows, HOST), soon(within))


def remove(ovsdb: Ovsdb, *names: str) -> int:
    return ovsdb.ask(RemovePorts(names, HOST), soon())


@contextmanager
def following(server: SwitchServer) -> Iterator[Follower]:
    """A connected one, to be stepped by hand."""
    follower = Follower(server.connection)
    finish(follower, [Request(await_applied(0), soon())])
    yield follower
    follower.close(NetworkError("the test is over"), [])


def finish(follower: Follower, requests: list[Request]) -> None:
    """Step until each is answered; those that it does not have yet are handed over first."""
    follower.step([one for one in requests if not one.was_sent and not one.is_answered])
    while not all(one.is_answered for one in requests):
        poller = Poller()
        follower.wait(poller)
        poller.block()
        follower.step([])
