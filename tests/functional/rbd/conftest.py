"""A cluster for each module here, asked directly, as the agent's storage asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from compute_agent.errors import DiskInUse
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from sandbox.ceph import Ceph
from tests.functional.rbd.asking import CALL_TIMEOUT, workers


@pytest.fixture(scope="module")
def ceph(directory: Path, request: pytest.FixtureRequest) -> Iterator[Ceph]:
    with Ceph(directory / request.module.__name__.rpartition("_")[2], with_manager=True) as ceph:
        yield ceph


@pytest.fixture
def settings(ceph: Ceph) -> CephSettings:
    return CephSettings(conf_dir=ceph.conf_dir, secret_dir=ceph.secret_dir, call_timeout=CALL_TIMEOUT)


@pytest.fixture
def user(ceph: Ceph) -> ClusterUser:
    return ClusterUser(auth_username=ceph.user, secret_uuid=ceph.secret_uuid)


@pytest.fixture
def cluster(ceph: Ceph, user: ClusterUser, settings: CephSettings) -> Iterator[Cluster]:
    """Connected to an empty pool; leaves neither processes nor images."""
    cluster = Cluster(user, settings)
    yield cluster
    for _ in range(2):  # clones before their parents
        for image in cluster.list_images(ceph.pool):
            with suppress(DiskInUse):
                cluster.remove(ceph.pool, image)
    assert cluster.list_images(ceph.pool) == []
    cluster.close()
    assert workers() == []
