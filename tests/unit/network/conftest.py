"""A real ovsdb-server for each test; with ``vswitchd`` there is also somebody who numbers the ports."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.network.ovs.ovsdb import Ovsdb

from .switch_server import StandIn, SwitchServer


@pytest.fixture
def server() -> Iterator[SwitchServer]:
    with tempfile.TemporaryDirectory() as directory, SwitchServer(Path(directory)) as running:
        yield running


@pytest.fixture
def vswitchd(server: SwitchServer) -> Iterator[StandIn]:
    with StandIn(server.connection) as running:
        yield running


@pytest.fixture
def ovsdb(server: SwitchServer) -> Iterator[Ovsdb]:
    following = Ovsdb(server.connection)
    yield following
    following.close()
