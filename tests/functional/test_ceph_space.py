"""What a controller is told of the room in a pool, on a real cluster with a manager, which can go away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import StorageError
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import until

GIB = 1024**3


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    """One whose manager has looked how much room there is."""
    with Ceph(directory / "cs", with_manager=True) as ceph:
        settings = CephSettings(conf_dir=ceph.conf_dir, secret_dir=ceph.secret_dir)
        cluster = Cluster(ClusterUser(auth_username=ceph.user, secret_uuid=ceph.secret_uuid), settings)
        until(lambda: knows_its_space(cluster, ceph.pool))
        cluster.close()
        yield ceph


def knows_its_space(cluster: Cluster, pool: str) -> bool:
    try:
        return bool(cluster.capacity(pool))
    except StorageError:
        return False


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[Node]:
    with Node(directory / "sn", broker.transport_url, switch.connection, host="space-node", ceph=ceph) as node:
        yield node


def test_a_host_tells_the_room_of_its_pool_and_how_old_that_is(ceph: Ceph, node: Node) -> None:
    space = until(lambda: node.client.get_host()["storage"].get("rbd"))
    assert 0 < space["free"] <= space["total"] <= 4 * GIB
    assert 0 <= space["age"] <= 20
    ceph.freeze_daemon("mon.a")
    try:
        until(lambda: node.client.get_host()["storage"]["rbd"]["age"] > space["age"])
        node.restart()
        began = time.monotonic()
        assert "rbd" not in node.client.get_host()["storage"]
        assert time.monotonic() - began < 2
    finally:
        ceph.thaw_daemon("mon.a")
    until(lambda: "rbd" in node.client.get_host()["storage"], 60)
