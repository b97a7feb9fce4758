"""What the agent asks of Ceph, on a real cluster: every verb, twice, and images that are uploaded."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, DiskInUse, StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.conversion import Conversion
from compute_agent.storage.rbd.upload import SNAPSHOT, Uploader
from sandbox.ceph import Ceph
from tests.functional.guests import until
from tests.functional.rbd.asking import GIB, has_ended, make_content, twice, workers

FEATURES = ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"]


def test_an_image_from_its_making_to_its_end(ceph: Ceph, cluster: Cluster) -> None:
    twice(cluster.create, ceph.pool, "made", GIB)
    assert cluster.exists(ceph.pool, "made")
    info = cluster.info(ceph.pool, "made")
    assert (info.size, info.parent, info.features) == (GIB, None, FEATURES)
    with pytest.raises(StorageError, match=f"{ceph.pool}/made exists with {GIB} bytes"):
        cluster.create(ceph.pool, "made", 2 * GIB)

    twice(cluster.resize, ceph.pool, "made", 2 * GIB)
    with pytest.raises(StorageError, match="not shrunk"):
        cluster.resize(ceph.pool, "made", GIB)
    assert f'"size":{2 * GIB}' in ceph.rbd("info", f"{ceph.pool}/made", "--format", "json")

    assert cluster.get_mark(ceph.pool, "made", "instance") is None
    twice(cluster.set_mark, ceph.pool, "made", "instance", "ä")
    assert cluster.get_mark(ceph.pool, "made", "instance") == "ä"

    cluster.rename(ceph.pool, "made", "called")
    assert cluster.list_images(ceph.pool) == ["called"]
    twice(cluster.remove, ceph.pool, "called")
    assert not cluster.exists(ceph.pool, "called")
    assert ceph.rbd("ls", ceph.pool) == ""


def test_snapshots_and_clones(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "parent", GIB)
    twice(cluster.create_snapshot, ceph.pool, "parent", "base", protect=True)
    cluster.create_snapshot(ceph.pool, "parent", "other")
    found = [(one.name, one.size, one.protected) for one in cluster.list_snapshots(ceph.pool, "parent")]
    assert found == [("base", GIB, True), ("other", GIB, False)]

    twice(cluster.clone, ceph.pool, "child", ceph.pool, "parent", "base")
    assert cluster.info(ceph.pool, "child").parent == f"{ceph.pool}/parent@base"
    with pytest.raises(StorageError, match="exists with the parent"):
        cluster.clone(ceph.pool, "child", ceph.pool, "parent", "other")
    for refused in (
        lambda: cluster.remove(ceph.pool, "parent"),
        lambda: cluster.remove_snapshot(ceph.pool, "parent", "base"),
    ):
        with pytest.raises(DiskInUse, match=f"snapshot base has clones: {ceph.pool}/child"):
            refused()
    assert len(cluster.list_snapshots(ceph.pool, "parent")) == 2

    twice(cluster.flatten, ceph.pool, "child")
    assert cluster.info(ceph.pool, "child").parent is None
    twice(cluster.remove_snapshot, ceph.pool, "parent", "base")
    cluster.remove(ceph.pool, "parent")  # with the snapshot that is left
    assert cluster.list_images(ceph.pool) == ["child"]


def test_a_clone_that_was_killed_half_way_is_made_anew(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "parent", GIB)
    cluster.create_snapshot(ceph.pool, "parent", "base")
    for attempt in range(8):
        (worker,) = workers()
        killer = threading.Timer(0.003 * attempt, os.kill, (worker, signal.SIGKILL))
        killer.start()
        with suppress(DeadlineExceeded):
            cluster.clone(ceph.pool, f"child{attempt}", ceph.pool, "parent", "base")
        killer.join()
        until(partial(has_ended, worker), 5)
        twice(cluster.clone, ceph.pool, f"child{attempt}", ceph.pool, "parent", "base")
        assert cluster.info(ceph.pool, f"child{attempt}").parent == f"{ceph.pool}/parent@base"
        cluster.remove(ceph.pool, f"child{attempt}")
    assert cluster.list_images(ceph.pool) == ["parent"]


def test_rollback_gives_the_content_of_the_snapshot_back(ceph: Ceph, cluster: Cluster, tmp_path: Path) -> None:
    cluster.create(ceph.pool, "rolled", GIB)
    cluster.create_snapshot(ceph.pool, "rolled", "empty")
    ceph.rbd("bench", "--io-type", "write", "--io-total", "4M", f"{ceph.pool}/rolled")
    twice(cluster.rollback, ceph.pool, "rolled", "empty")
    ceph.rbd("export", f"{ceph.pool}/rolled", str(tmp_path / "content"))
    subprocess.run(["cmp", "--bytes", "4194304", tmp_path / "content", "/dev/zero"], check=True)


def test_the_cluster_and_its_space(ceph: Ceph, cluster: Cluster) -> None:
    assert cluster.fsid() == ceph.fsid

    def capacity() -> object:
        try:
            return cluster.capacity(ceph.pool)
        except StorageError:  # the manager has not looked yet
            return None

    capacity = until(capacity, 20)
    assert 0 < capacity["free"] <= capacity["total"] <= 4 * GIB
    with pytest.raises(StorageError, match="nowhere"):
        cluster.capacity("nowhere")


def test_what_is_not_there(ceph: Ceph, cluster: Cluster) -> None:
    with pytest.raises(StorageError, match=rf"info of {ceph.pool}/none: No such file"):
        cluster.info(ceph.pool, "none")
    with pytest.raises(StorageError, match=r"clone of .*: No such file"):
        cluster.clone(ceph.pool, "child", ceph.pool, "none", "base")
    assert not cluster.exists("nowhere", "none")
    cluster.remove("nowhere", "none")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_an_image_is_uploaded_once(ceph: Ceph, cluster: Cluster, tmp_path: Path, format: str) -> None:
    content = make_content(tmp_path / "content")
    source = tmp_path / "source"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, content, source], check=True)
    percentages: list[int] = []
    uploader = Uploader("host1", Conversion("qemu-img", 60))
    file = FileSource(path=source, format=format)  # type: ignore[arg-type]
    cluster.create(ceph.pool, "image.host1.part", GIB)  # of an attempt that a crash cut short
    uploader.upload(cluster, file, ceph.pool, "image", percentages.append)
    uploader.upload(cluster, file, ceph.pool, "image", lambda _: pytest.fail("it was there already"))

    assert cluster.list_images(ceph.pool) == ["image"]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100
    assert [(one.name, one.protected) for one in cluster.list_snapshots(ceph.pool, "image")] == [(SNAPSHOT, True)]
    cluster.clone(ceph.pool, "disk", ceph.pool, "image", SNAPSHOT)
    ceph.rbd("export", f"{ceph.pool}/disk", str(tmp_path / "back"))
    subprocess.run(["cmp", content, tmp_path / "back"], check=True)


def test_an_upload_that_fails_leaves_nothing(ceph: Ceph, cluster: Cluster, tmp_path: Path) -> None:
    source = FileSource(path=make_content(tmp_path / "content"), format="raw")
    with pytest.raises(StorageError, match="not done within"):
        Uploader("host1", Conversion("qemu-img", 0.01)).upload(cluster, source, ceph.pool, "image", lambda _: None)
    with pytest.raises(StorageError, match="could not be filled"):
        Uploader("host1", Conversion("false", 60)).upload(cluster, source, ceph.pool, "image", lambda _: None)
    assert cluster.list_images(ceph.pool) == []


def test_many_at_once(ceph: Ceph, cluster: Cluster) -> None:
    names = [f"image{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(lambda name: cluster.create(ceph.pool, name, GIB), names))
        assert len(workers()) == 1  # the one that stays
        list(threads.map(lambda name: cluster.remove(ceph.pool, name), names))
    assert cluster.list_images(ceph.pool) == []
