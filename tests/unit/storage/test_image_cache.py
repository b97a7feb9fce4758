"""The cache stays within its limit, keeps what is in use, and notices what has changed in it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import InsufficientResources
from compute_agent.host.durable import publish
from compute_agent.instance.model import DirectBoot, Instance
from compute_agent.storage import images
from compute_agent.storage.image_cache.stamps import ImageStamps
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .conftest import WebServer, send
from .making import cached, checksum, ignore, image_disk, local_disk, local_source, make_instance, number, open_disks
from .test_images import kernel

MIB = 1024**2


@pytest.fixture
def small(settings: StorageSettings) -> StorageSettings:
    """Room for two images of 1 MiB, and not for three."""
    return replace(settings, image_cache_size_mb=2)


def order(sources: Path, index: int, size: int = MIB - 8192) -> Instance:
    """An instance on a raw image of its own."""
    return number(make_instance(local_disk(sources, bytes([index]) * size, "raw")), index)


def contents(settings: StorageSettings) -> list[int]:
    return sorted(path.read_bytes()[0] for path in cached(settings))


def boot_and_leave(disks: NodeDisks, instance: Instance) -> None:
    disks.create(instance, ignore)
    disks.delete(instance.uuid)


def test_what_was_used_longest_ago_makes_room(small: StorageSettings, sources: Path) -> None:
    disks = open_disks(small)
    boot_and_leave(disks, order(sources, 1))
    boot_and_leave(disks, order(sources, 2))
    boot_and_leave(disks, order(sources, 1))
    boot_and_leave(disks, order(sources, 3))
    assert contents(small) == [1, 3]
    assert {path.name for path in (small.image_dir / "verified").iterdir()} == {path.name for path in cached(small)}


def test_what_a_disk_stands_on_stays(small: StorageSettings, sources: Path) -> None:
    disks = open_disks(small)
    disks.create(order(sources, 1), ignore)
    boot_and_leave(disks, order(sources, 2))
    boot_and_leave(open_disks(small), order(sources, 3))  # an agent that was not there when the disk was made
    assert contents(small) == [1, 3]
    disks.create(order(sources, 3), ignore)
    with pytest.raises(InsufficientResources, match=r"2\.0 MiB are in use \(see \[storage\] image_cache_size_mb\)"):
        disks.create(order(sources, 4), ignore)
    disks.delete(order(sources, 3).uuid)
    disks.create(order(sources, 4), ignore)
    assert contents(small) == [1, 4]


def test_an_image_larger_than_the_cache(small: StorageSettings, sources: Path) -> None:
    disks = open_disks(small)
    boot_and_leave(disks, order(sources, 1))
    with pytest.raises(InsufficientResources, match="image cache"):
        disks.create(order(sources, 2, 3 * MIB), ignore)
    assert list(small.image_dir.glob("*.part")) == []


def test_room_for_what_must_stay_free(settings: StorageSettings, sources: Path) -> None:
    disks = open_disks(settings)
    boot_and_leave(disks, order(sources, 1))
    with pytest.raises(InsufficientResources, match="has not enough space"):
        open_disks(replace(settings, reserved_space=1 << 60)).create(order(sources, 2), ignore)
    assert contents(settings) == []


def test_what_somebody_else_keeps_there_stays(small: StorageSettings, sources: Path) -> None:
    strange = small.image_dir / "a-copy.qcow2"
    disks = open_disks(small)
    strange.write_bytes(b"kept" * MIB)
    for index in (1, 2, 3):
        boot_and_leave(disks, order(sources, index))
    assert disks.foreign() == {f"file {strange}"}
    disks.prune_images()
    assert strange.exists()


def test_a_kernel_stays_for_the_next_start(small: StorageSettings, sources: Path) -> None:
    disks = open_disks(small)
    boot = DirectBoot(
        kernel=local_source(sources, kernel().ljust(MIB - 8192, b"k")), ramdisk=local_source(sources, b"cpio")
    )
    guest = make_instance(direct_boot=boot)
    disks.create(guest, ignore)
    boot_and_leave(disks, order(sources, 2, MIB - 32768))
    boot_and_leave(disks, order(sources, 3, MIB - 32768))
    for path in cached(small):
        path.unlink()  # even by hand
    files = disks.boot_files(guest)
    assert files is not None and files.ramdisk is not None
    assert (files.kernel.read_bytes()[:0x206][-4:], files.ramdisk.read_bytes()) == (b"HdrS", b"cpio")


def test_two_downloads_do_not_promise_the_same_room(small: StorageSettings, web: WebServer, sources: Path) -> None:
    disks, arriving, go_on = open_disks(small), threading.Event(), threading.Event()
    first, second = b"\1" * (MIB + MIB // 2), b"\2" * MIB

    def slowly(request: BaseHTTPRequestHandler) -> None:
        send(request, first[:100_000], length=len(first))
        go_on.wait(5)
        request.wfile.write(first[100_000:])

    web.answers["/first"] = slowly
    slow = make_instance(image_disk(web.url("/first"), checksum(first), "raw"))
    with ThreadPoolExecutor(1) as threads:
        began = threads.submit(disks.create, slow, lambda percent: arriving.set())
        try:
            assert arriving.wait(5)
            with pytest.raises(InsufficientResources):
                disks.create(number(make_instance(local_disk(sources, second, "raw")), 2), ignore)
        finally:
            go_on.set()
        began.result(5)
    assert contents(small) == [1]


def test_a_download_of_unknown_size_ends_at_the_limit(settings: StorageSettings, web: WebServer) -> None:
    limited = replace(settings, image_cache_size_mb=20)
    content = bytes(40 * MIB)

    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)

    web.answers["/"] = without_length
    with pytest.raises(InsufficientResources, match="image cache"):
        open_disks(limited).create(make_instance(image_disk(web.url("/"), checksum(content), "raw")), ignore)
    assert list(limited.image_dir.glob("*.part")) == []


def scribble(path: Path, *, keep_time: bool = False) -> None:
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"??")
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_corrupt_image_is_fetched_again(
    disks: NodeDisks, settings: StorageSettings, sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boot_and_leave(disks, order(sources, 1))
    scribble(cached(settings)[0])
    boot_and_leave(disks, order(sources, 1))
    assert contents(settings) == [1]
    assert "is corrupt and fetched again; on it stand: no disks" in caplog.text


def test_disks_on_a_corrupt_image_keep_it(
    disks: NodeDisks, settings: StorageSettings, sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = order(sources, 1)
    disks.create(old, ignore)
    scribble(cached(settings)[0])
    new = number(old, 7)
    disks.create(new, ignore)
    assert f"on it stand: {old.uuid}.disk0" in caplog.text
    bases = [disks.connect(one, vhost_user=False)[0].source.backing.path for one in (old, new)]
    assert [base.read_bytes()[:2] for base in bases] == [b"??", b"\1\1"]
    assert disks.capacity()["images"]["size"] >= 2 * (MIB - 8192)  # the old one takes space as well
    disks.delete(old.uuid)
    assert disks.capacity()["images"]["size"] < 2 * (MIB - 8192)


def test_silent_corruption_is_found_when_verification_is_due(settings: StorageSettings, sources: Path) -> None:
    boot_and_leave(open_disks(settings), order(sources, 1))
    scribble(cached(settings)[0], keep_time=True)
    boot_and_leave(open_disks(replace(settings, image_verify_interval=0)), order(sources, 1))
    assert contents(settings) == [ord("?")]  # never looked at
    boot_and_leave(open_disks(replace(settings, image_verify_interval=1e-9)), order(sources, 1))
    assert contents(settings) == [1]


def test_an_image_without_a_stamp_is_verified(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    boot_and_leave(disks, order(sources, 1))
    (stamp,) = (settings.image_dir / "verified").iterdir()
    stamp.write_bytes(b"{")
    inode = cached(settings)[0].stat().st_ino
    boot_and_leave(disks, order(sources, 1))
    assert cached(settings)[0].stat().st_ino == inode
    assert msgspec.json.decode(stamp.read_bytes())["inode"] == inode


def test_who_comes_as_an_image_gets_its_name_finds_it_verified(
    disks: NodeDisks, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish_and_come(part: Path, path: Path) -> None:
        publish(part, path)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(disks.create, number(order(sources, 1), 2), ignore).result(timeout=10)

    monkeypatch.setattr(images, "publish", publish_and_come)
    monkeypatch.setattr(images, "has_checksum", None)
    disks.create(order(sources, 1), ignore)


def test_two_may_verify_an_image_at_once(tmp_path: Path) -> None:
    stamps, file = ImageStamps(tmp_path / "verified", 0), tmp_path / "image"
    file.touch()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: stamps.write(file, file), range(400)))
    assert stamps.looks_sound(file)


def test_links_of_lost_instances_are_dropped(settings: StorageSettings, sources: Path) -> None:
    disks = open_disks(settings)
    kept, lost = order(sources, 1), order(sources, 2)
    disks.create(kept, ignore)
    disks.create(lost, ignore)
    for path in (settings.disk_dir / lost.uuid).iterdir():
        path.unlink()
    (settings.disk_dir / lost.uuid).rmdir()
    open_disks(settings)
    assert [path.name for path in (settings.image_dir / "used").iterdir()] == [f"{kept.uuid}.disk0"]


def test_what_the_cache_holds(disks: NodeDisks, sources: Path) -> None:
    boot_and_leave(disks, order(sources, 2))
    disks.create(order(sources, 1), ignore)
    disks.create(number(order(sources, 1), 5), ignore)
    idle, busy = disks.list_images()
    assert (busy.checksum, busy.kind, busy.used_by) == (checksum(b"\1" * (MIB - 8192)), "raw", 2)
    assert (idle.used_by, idle.used_at <= busy.used_at) == (0, True)


def test_only_what_nobody_uses_is_pruned(disks: NodeDisks, settings: StorageSettings, sources: Path) -> None:
    disks.create(order(sources, 1), ignore)
    boot_and_leave(disks, order(sources, 2))
    coming = settings.image_dir / "sha256-00.raw.0.part"
    coming.touch()
    (gone,) = disks.prune_images()
    assert (gone.checksum, gone.size > 0) == (checksum(b"\2" * (MIB - 8192)), True)
    assert [image.used_by for image in disks.list_images()] == [1]
    assert coming.exists(), "a download goes on"
    assert disks.prune_images() == []
    boot_and_leave(disks, order(sources, 2))


def test_what_is_being_used_is_not_pruned(disks: NodeDisks, sources: Path) -> None:
    """Between its download and the disk that will stand on it."""
    wanted = order(sources, 3)
    boot_and_leave(disks, wanted)
    image = wanted.block_devices[0].image
    assert image is not None
    with disks._images.holding(image, image.disk_format):
        assert disks.prune_images() == []
    assert len(disks.prune_images()) == 1
