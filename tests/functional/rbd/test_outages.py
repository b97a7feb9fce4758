"""Outages of a cluster, workers that are killed, and where the key never is, on a real cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, InvalidMessage, StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.conversion import Conversion
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.upload import Uploader
from sandbox.ceph import Ceph
from tests.functional.guests import until
from tests.functional.rbd.asking import CALL_TIMEOUT, GIB, has_ended, make_content, workers

_ASK = """
import sys
from pathlib import Path
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
conf_dir, secret_dir, user, secret_uuid, pool = sys.argv[1:]
settings = CephSettings(conf_dir=Path(conf_dir), secret_dir=Path(secret_dir), call_timeout=600)
cluster = Cluster(ClusterUser(auth_username=user, secret_uuid=secret_uuid), settings)
cluster.fsid()
print("connected", flush=True)
sys.stdin.readline()
cluster.exists(pool, "anything")
"""
"""An agent that is killed while it waits for a cluster that does not answer."""


def test_a_dead_monitor_costs_seconds_and_nothing_else(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "before", GIB)
    ceph.kill_daemon("mon.a")
    assert cluster.exists(ceph.pool, "before")  # the OSD answers
    with timed(CALL_TIMEOUT), pytest.raises(DeadlineExceeded, match="exists of elsewhere/before: no answer after"):
        cluster.exists("elsewhere", "before")
    assert workers() == []
    with timed(5.0), pytest.raises(StorageError, match=r"cluster ceph cannot be reached .*: Connection timed out"):
        cluster.exists(ceph.pool, "before")
    assert workers() == []
    ceph.start_daemon("mon.a")
    assert until(lambda: answered(lambda: cluster.exists(ceph.pool, "before")), 20)


def test_a_frozen_osd_costs_seconds_and_nothing_else(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "before", GIB)
    ceph.freeze_daemon("osd.0")
    try:
        with timed(CALL_TIMEOUT), pytest.raises(DeadlineExceeded, match="create of volumes/during: no answer after"):
            cluster.create(ceph.pool, "during", GIB)
        assert workers() == []
    finally:
        ceph.thaw_daemon("osd.0")
    cluster.create(ceph.pool, "during", GIB)
    assert sorted(cluster.list_images(ceph.pool)) == ["before", "during"]


def test_what_a_lost_worker_had_open_is_in_nobodys_way(ceph: Ceph, cluster: Cluster) -> None:
    cluster.create(ceph.pool, "interrupted", GIB)
    for attempt in range(8):  # it is killed sooner or later in its work
        (worker,) = workers()
        killer = threading.Timer(0.005 * attempt, os.kill, (worker, signal.SIGKILL))
        killer.start()
        with suppress(DeadlineExceeded):
            cluster.create_snapshot(ceph.pool, "interrupted", f"snapshot{attempt}")
        killer.join()
        until(partial(has_ended, worker), 5)
        cluster.create_snapshot(ceph.pool, "interrupted", f"snapshot{attempt}")  # within CALL_TIMEOUT
    assert len(cluster.list_snapshots(ceph.pool, "interrupted")) == 8
    cluster.remove(ceph.pool, "interrupted")


@contextmanager
def timed(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 2


def answered(question: Callable[[], object]) -> object:
    try:
        return question()
    except StorageError:
        return None


def test_a_worker_that_is_killed_is_replaced(ceph: Ceph, cluster: Cluster) -> None:
    cluster.fsid()
    (worker,) = workers()
    os.kill(worker, signal.SIGKILL)
    until(partial(has_ended, worker), 5)
    assert cluster.fsid() == ceph.fsid


def test_a_worker_ends_with_its_agent(ceph: Ceph, cluster: Cluster) -> None:
    words = (str(ceph.conf_dir), str(ceph.secret_dir), ceph.user, ceph.secret_uuid, ceph.pool)
    agent = subprocess.Popen([sys.executable, "-c", _ASK, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"connected\n"
        ceph.freeze_daemon("osd.0")
        try:
            agent.stdin.write(b"go\n")
            agent.stdin.flush()
            until(lambda: waits_for_the_worker(agent.pid), 10)
            agent.kill()
            until(lambda: workers() == [], 10)
        finally:
            ceph.thaw_daemon("osd.0")


def waits_for_the_worker(pid: int) -> bool:
    """It has asked (the kernel says where it sleeps), and the worker has not answered."""
    return "poll" in Path(f"/proc/{pid}/wchan").read_text()


def test_the_key_is_nowhere_to_be_seen(
    ceph: Ceph, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """While a worker and a qemu-img use it."""
    caplog.set_level("DEBUG")
    seen: list[str] = []
    programs: set[bytes] = set()

    def look(_percentage: int) -> None:
        for file in Path("/proc").glob("[0-9]*/*"):
            if file.name in ("cmdline", "environ"):
                content = content_of(file)
                programs.update(word for word in (b"qemu-img", b"rbd.worker") if word in content)
                seen.extend([str(file)] if ceph.key.encode() in content else [])

    source = FileSource(path=make_content(tmp_path / "content"), format="raw")
    Uploader("host1", Conversion("qemu-img", 60)).upload(cluster, source, ceph.pool, "image", look)
    with pytest.raises(StorageError):
        cluster.info(ceph.pool, "none")
    assert programs == {b"qemu-img", b"rbd.worker"}
    assert seen == []
    assert ceph.key not in repr(cluster.credentials())
    assert ceph.key not in caplog.text + "".join(capfd.readouterr()) + ceph.log.read_text()


def content_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def test_a_wrong_key_is_told_apart_from_a_dead_cluster(
    ceph: Ceph, user: ClusterUser, settings: CephSettings, tmp_path: Path
) -> None:
    (tmp_path / ceph.secret_uuid).touch(mode=0o600)
    (tmp_path / ceph.secret_uuid).write_text(ceph.key[:-6] + "AAAA==")
    with pytest.raises(StorageError, match=r"cannot be reached as client.compute .*: (Permission|Operation)"):
        Cluster(user, replace(settings, secret_dir=tmp_path)).fsid()
    with pytest.raises(InvalidMessage, match=r"connection_info\.data\.cluster_name"):
        Cluster(replace(user, cluster_name="other"), settings).fsid()
    assert workers() == []
