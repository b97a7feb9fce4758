"""Real parts for the functional tests: one broker and one switch in each sandbox, an agent for each module.

Run inside `devstack/sandbox/enter`: a network and a process namespace of their own. `make functional` has two of them
at work, each on a module: much of the time is waiting.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, leaving_nothing

_clusters = count()


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """A short path: unix sockets have to fit."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def broker(directory: Path) -> Iterator[Broker]:
    with Broker(directory / "mq") as broker:
        yield broker


@pytest.fixture(scope="session")
def switch(directory: Path) -> Iterator[Switch]:
    with Switch(directory / "sw") as switch:
        switch.add_bridge("br-int", address="10.77.0.1/24")
        yield switch


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    """A cluster for each module that wants one."""
    with Ceph(directory / f"c{next(_clusters)}") as ceph:
        yield ceph


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, request: pytest.FixtureRequest) -> Iterator[Node]:
    """An agent; what it has left behind when all instances are terminated fails the module."""
    name = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    with leaving_nothing(Node(directory / name, broker.transport_url, switch.connection, host=name), switch) as node:
        yield node


@pytest.fixture
def mortal(directory: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    with Broker(directory / "mortal") as broker:
        yield broker


@pytest.fixture
def alone(directory: Path, mortal: Broker, switch: Switch) -> Iterator[Node]:
    """An agent of that broker's; what it has left behind when all instances are terminated fails the test."""
    with leaving_nothing(
        Node(directory / "alone", mortal.transport_url, switch.connection, host="alone"), switch
    ) as node:
        yield node


@pytest.fixture
def guests(node: Node) -> Iterator[Guests]:
    """Boots tiny guests on the node and terminates them after the test."""
    guests = Guests(node)
    yield guests
    guests.terminate_all()
