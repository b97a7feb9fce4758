"""Whose an image is, who has it open, and what becomes of it when they die, on a real cluster."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from compute_agent.errors import DiskInUse, MigrationRefused
from compute_agent.storage.rbd.answers import Owner
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.clusters import Clusters
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.evacuation import EvacuatedImage
from compute_agent.storage.rbd.purge import PurgeQueue, UnwantedImage
from sandbox.ceph import Ceph
from tests.functional.rbd.asking import GIB, lock_owner, opened, twice

OWNER = Owner("host1", "0e6d4e4a-8f3a-4c63-9d1e-0d2f8b4f5a11")


def test_an_image_has_one_owner(ceph: Ceph, cluster: Cluster, user: ClusterUser, settings: CephSettings) -> None:
    cluster.create(ceph.pool, "owned", GIB)
    other = Owner("host2", OWNER.instance_uuid)
    assert cluster.owner(ceph.pool, "owned") is None
    twice(cluster.take, ceph.pool, "owned", OWNER)
    cluster.close()  # as when the agent is started again: another client to the cluster
    cluster.take(ceph.pool, "owned", OWNER)
    with pytest.raises(DiskInUse, match=f"belongs to host1/{OWNER.instance_uuid}"):
        cluster.take(ceph.pool, "owned", other)
    cluster.release(ceph.pool, "owned", other)
    assert cluster.owner(ceph.pool, "owned") == OWNER
    twice(cluster.release, ceph.pool, "owned", OWNER)
    cluster.take(ceph.pool, "owned", other)
    assert cluster.owner(ceph.pool, "owned") == other
    cluster.release(ceph.pool, "gone", other)


def test_an_open_image_stays_and_grows(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "open", GIB)
    with opened(ceph, cluster, "open"):
        (watcher,) = cluster.watchers(ceph.pool, "open")
        with pytest.raises(DiskInUse, match=f"is open: client.{watcher.client} at {watcher.address}"):
            cluster.remove(ceph.pool, "open")
        cluster.create_snapshot(ceph.pool, "open", "live")
        cluster.resize(ceph.pool, "open", 2 * GIB)
        with pytest.raises(DiskInUse, match=f"{ceph.pool}/open is open"):
            cluster.rollback(ceph.pool, "open", "live")
    cluster.rollback(ceph.pool, "open", "live")
    assert cluster.info(ceph.pool, "open").size == GIB


def test_a_writer_that_died_is_in_nobodys_way(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "left", GIB)
    with opened(ceph, cluster, "left") as writer:
        writer.kill()
        writer.wait()
    assert lock_owner(ceph, "left")
    assert cluster.break_writer(ceph.pool, "left")
    assert not cluster.break_writer(ceph.pool, "left")
    assert cluster.watchers(ceph.pool, "left") == []
    began = time.monotonic()
    with opened(ceph, cluster, "left"):
        assert time.monotonic() - began < 10  # not the 22 s and more that a dead one's lock lasts


def test_a_writer_that_only_seemed_dead_does_no_harm(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "fenced", GIB)
    with opened(ceph, cluster, "fenced") as writer:
        assert cluster.break_writer(ceph.pool, "fenced")
        with opened(ceph, cluster, "fenced"):
            output, _ = writer.communicate(b"write 4k 4k\n", timeout=20)
    assert b"Cannot send after transport endpoint shutdown" in output


def test_what_cannot_be_removed_yet_is_not_forgotten(
    ceph: Ceph, cluster: Cluster, user: ClusterUser, tmp_path: Path
) -> None:
    now = 0.0
    unwanted = UnwantedImage(user=user, pool=ceph.pool, image="unwanted")

    def queue() -> PurgeQueue:
        return PurgeQueue(tmp_path, lambda image: cluster.remove(image.pool, image.image), lambda: now)

    cluster.create(ceph.pool, "unwanted", GIB)
    with opened(ceph, cluster, "unwanted"):
        assert not queue().purge(unwanted)
        with pytest.raises(DiskInUse):
            queue().make_room(unwanted)
        assert queue().run_due() == 1
        cluster.break_writer(ceph.pool, "unwanted")
    assert queue().run_due() == 0
    assert not cluster.exists(ceph.pool, "unwanted")


def seen_by(host: str, cluster: Cluster, ceph: Ceph) -> EvacuatedImage:
    return EvacuatedImage(cluster, ceph.pool, "evacuated", Owner(host, OWNER.instance_uuid))


def test_an_image_is_taken_from_a_host_that_is_believed_dead(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "evacuated", GIB)
    cluster.take(ceph.pool, "evacuated", OWNER)
    dead, there, third = (seen_by(host, cluster, ceph) for host in ("host1", "host2", "host3"))
    with opened(ceph, cluster, "evacuated") as writer:
        for _ in range(2):
            there.claim("host1", 4)
        assert cluster.owner(ceph.pool, "evacuated") == there.own
        assert not lock_owner(ceph, "evacuated"), "it may still be written to"
        writer.kill()
        writer.wait()
    assert dead.is_lost(3) and not there.is_lost(4)
    cluster.release(ceph.pool, "evacuated", there.own)  # it is stopped there
    assert dead.is_lost(3)
    with pytest.raises(MigrationRefused, match="epoch: 4 is not above 4"):
        third.check("host2", 4)
    third.claim("host2", 5)
    assert there.is_lost(4) and dead.is_lost(3)


def test_who_is_said_to_be_dead_must_be_who_has_it(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "evacuated", GIB)
    cluster.take(ceph.pool, "evacuated", OWNER)
    with pytest.raises(MigrationRefused, match=f"is not host3's: it belongs to {OWNER}"):
        seen_by("host2", cluster, ceph).claim("host3", 4)
    assert cluster.owner(ceph.pool, "evacuated") == OWNER
    assert not seen_by("host1", cluster, ceph).is_lost(0)


def test_a_host_that_lost_an_image_does_not_remove_it(
    ceph: Ceph, cluster: Cluster, user: ClusterUser, settings: CephSettings
) -> None:
    cluster.create(ceph.pool, "evacuated", GIB)
    there, clusters = seen_by("host2", cluster, ceph), Clusters(settings)
    there.claim("host1", 1)
    cluster.release(ceph.pool, "evacuated", there.own)
    unwanted = UnwantedImage(user=user, pool=ceph.pool, image="evacuated")
    clusters.remove(unwanted, "host1")
    assert cluster.exists(ceph.pool, "evacuated")
    seen_by("host3", cluster, ceph).note_owner(2)  # it moved on
    clusters.remove(unwanted, "host2")
    assert cluster.exists(ceph.pool, "evacuated")
    clusters.remove(unwanted, "host3")
    assert not cluster.exists(ceph.pool, "evacuated")
    clusters.close()
