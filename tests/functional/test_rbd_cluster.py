"""What the agent asks of Ceph, on a real cluster: every verb, twice; outages; and where the key never is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, DiskInUse, InvalidMessage, StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.answers import Owner
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.conversion import Conversion
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.purge import PurgeQueue, UnwantedImage
from compute_agent.storage.rbd.upload import SNAPSHOT, Uploader
from compute_agent.storage.secrets import readable_once
from sandbox.ceph import Ceph
from tests.functional.guests import until

GIB = 1024**3
FEATURES = ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"]
CALL_TIMEOUT = 4.0
OWNER = Owner("host1", "0e6d4e4a-8f3a-4c63-9d1e-0d2f8b4f5a11")

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


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    with Ceph(directory / "ceph", with_manager=True) as ceph:
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


def workers() -> list[int]:
    """The worker processes on this machine."""
    return [pid for pid, words in command_lines() if b"compute_agent.storage.rbd.worker" in words]


def has_ended(worker: int) -> bool:
    """With its last thread, whether the agent has noticed or not."""
    try:
        return os.waitid(os.P_PID, worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def command_lines() -> Iterator[tuple[int, bytes]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def twice(verb: Callable[..., object], *arguments: object, **more: object) -> None:
    """As after a crash."""
    verb(*arguments, **more)
    verb(*arguments, **more)


@contextmanager
def opened(ceph: Ceph, cluster: Cluster, image: str) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU that has written to the image and keeps it open; it ends in good order unless it was killed."""
    target = (
        f'json:{{"driver":"raw","file":{{"driver":"rbd","pool":"{ceph.pool}","image":"{image}","conf":"{ceph.conf}",'
        f'"user":"{ceph.user}","key-secret":"key"}}}}'
    )
    with readable_once(cluster.credentials().key) as key:
        secret = f"secret,id=key,format=base64,file=/dev/fd/{key}"
        process = subprocess.Popen(
            ["stdbuf", "-oL", "qemu-io", "--object", secret, target],
            pass_fds=[key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            assert process.stdin is not None
            process.stdin.write(b"write 0 4k\n")
            process.stdin.flush()
            until(lambda: lock_owner(ceph, image), 20)
            yield process
            if process.poll() is None:
                process.communicate(timeout=20)


def lock_owner(ceph: Ceph, image: str) -> str:
    """Of librbd's own lock, as the ``rbd`` command tells."""
    return ceph.rbd("lock", "ls", f"{ceph.pool}/{image}").strip()


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
        output, _ = writer.communicate(b"write 4k 4k\n", timeout=20)
    assert b"Cannot send after transport endpoint shutdown" in output


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


def make_content(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(os.urandom(8 * 1024**2))
        file.truncate(64 * 1024**2)
    return path


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


def test_many_at_once(ceph: Ceph, cluster: Cluster) -> None:
    names = [f"image{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(lambda name: cluster.create(ceph.pool, name, GIB), names))
        assert len(workers()) == 1  # the one that stays
        list(threads.map(lambda name: cluster.remove(ceph.pool, name), names))
    assert cluster.list_images(ceph.pool) == []


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
