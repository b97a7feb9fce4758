"""Copies of disks that nobody has open: made, kept, listed, deleted, and put back in the face of crashes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import CopyNotFound, DiskInUse, InsufficientResources, InvalidMessage, StorageError
from compute_agent.instance.block_device import Encryption
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import Compression, StorageSettings
from tests.unit.storage.making import UUID, ignore, local_disk, make_instance, open_disks, qemu_img

COPY, LATER = "c0000000-0000-4000-8000-000000000001", "c0000000-0000-4000-8000-000000000002"


@pytest.fixture
def instance(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> Instance:
    """With a disk that stands on an image."""
    instance = with_named_devices(make_instance(local_disk(sources, qcow2_content), config_drive=False))
    disks.create(instance, ignore)
    return instance


def an_order(instance: Instance, copy_id: str = COPY, **changes: object) -> CopyOrder:
    fields = {"kind": "backup", "copy_id": copy_id, "instance": instance, "devices": instance.block_devices}
    return CopyOrder(**(fields | changes))  # type: ignore[arg-type]


def make(disks: NodeDisks, order: CopyOrder) -> None:
    disks.copies.prepare(order)
    disks.copies.copy(order, ignore)
    disks.copies.keep(order, ignore)


def disk_of(settings: StorageSettings) -> Path:
    return settings.disk_dir / UUID / "disk0.qcow2"


def path_of(target: FileSource | NbdSource) -> Path:
    assert isinstance(target, FileSource)
    return target.path


def write(path: Path, pattern: int) -> None:
    qemu_io(path, f"write -P {pattern} 2M 64k")


def has(path: Path, pattern: int) -> bool:
    return "failed" not in qemu_io(path, f"read -P {pattern} 2M 64k")


def qemu_io(path: Path, command: str) -> str:
    result = subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(path)], capture_output=True, text=True)
    return result.stdout


def everything_in(settings: StorageSettings) -> set[str]:
    return {path.name for base in (settings.backup_dir, settings.snapshot_dir) for path in base.iterdir()}


def test_a_backup_and_its_way_back(disks: NodeDisks, settings: StorageSettings, instance: Instance) -> None:
    write(disk_of(settings), 1)
    make(disks, an_order(instance))
    write(disk_of(settings), 2)
    (backup,) = disks.copies.list_backups()
    assert (backup.backup_id, backup.frozen, [disk.name for disk in backup.disks]) == (COPY, True, ["disk0"])
    disks.copies.prepare_restore(instance, COPY, ignore)
    assert has(disk_of(settings), 2), "nothing has happened to the disk yet"
    for _ in range(2):
        disks.copies.exchange(instance, COPY)
        assert has(disk_of(settings), 1)
    disks.copies.exchange_back(instance)
    assert has(disk_of(settings), 2)
    disks.copies.prepare_restore(instance, COPY, ignore)
    disks.copies.exchange(instance, COPY)
    disks.copies.finish_restore(instance)
    assert has(disk_of(settings), 1)
    assert [path.name for path in disk_of(settings).parent.iterdir()] == ["disk0.qcow2"]
    assert "identical" in qemu_img("compare", str(disk_of(settings)), str(settings.backup_dir / COPY / "disk0.qcow2"))


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_copies_are_compressed_where_that_is_wanted(
    disks: NodeDisks, settings: StorageSettings, instance: Instance, compression: Compression
) -> None:
    write(disk_of(settings), 1)
    disks = open_disks(replace(settings, copy_compression=compression))
    make(disks, an_order(instance))
    later = an_order(instance, LATER, parent=COPY)
    disks.copies.prepare(later)
    assert f"compression type: {compression}" in qemu_img("info", str(path_of(disks.copies.open(later, "disk0"))))
    copy = str(settings.backup_dir / COPY / "disk0.qcow2")
    assert f"compression type: {compression}" in qemu_img("info", copy)
    assert "100.00% compressed clusters" in qemu_img("check", copy)
    assert "identical" in qemu_img("compare", str(disk_of(settings)), copy)


def test_an_exchange_that_was_cut_short_goes_on_or_back(
    disks: NodeDisks, settings: StorageSettings, instance: Instance
) -> None:
    write(disk_of(settings), 1)
    make(disks, an_order(instance))
    write(disk_of(settings), 2)
    for way, pattern in (("on", 1), ("back", 2)):
        disks.copies.prepare_restore(instance, COPY, ignore)
        write(disk_of(settings), 2)
        disk_of(settings).rename(disk_of(settings).with_suffix(".former"))
        if way == "on":
            disks.copies.exchange(instance, COPY)
        else:
            disks.copies.exchange_back(instance)
        disks.copies.finish_restore(instance)
        assert has(disk_of(settings), pattern)


def test_an_incremental_copy_stands_on_its_parent(
    disks: NodeDisks, settings: StorageSettings, instance: Instance
) -> None:
    make(disks, an_order(instance))
    later = an_order(instance, LATER, parent=COPY)
    disks.copies.prepare(later)
    write(path_of(disks.copies.open(later, "disk0")), 3)
    disks.copies.keep(later, ignore)
    disks.copies.keep(later, ignore)
    path = settings.backup_dir / LATER / "disk0.qcow2"
    assert f"backing file: ../{COPY}/disk0.qcow2" in qemu_img("info", str(path))
    with pytest.raises(DiskInUse, match=LATER):
        disks.copies.delete_backup(COPY)
    disks.copies.prepare_restore(instance, LATER, ignore)
    disks.copies.exchange(instance, LATER)
    assert has(disk_of(settings), 3)
    for one in (LATER, COPY, COPY):
        disks.copies.delete_backup(one)
    assert everything_in(settings) == set()


def test_marks_come_and_go(disks: NodeDisks, settings: StorageSettings, instance: Instance) -> None:
    first, second = an_order(instance), an_order(instance, LATER)
    make(disks, first)
    make(disks, second)
    assert qemu_img("info", str(disk_of(settings))).count("granularity") == 2
    disks.copies.forget_older_marks(second)
    assert COPY not in qemu_img("info", str(disk_of(settings)))
    disks.copies.forget_mark(second)
    disks.copies.forget_mark(second)
    assert "granularity" not in qemu_img("info", str(disk_of(settings)))


def test_a_snapshot_can_be_booted_from(disks: NodeDisks, settings: StorageSettings, instance: Instance) -> None:
    order = an_order(instance, kind="snapshot")
    make(disks, order)
    snapshot = disks.copies.get_snapshot(COPY)
    assert everything_in(settings) == {f"{COPY}.qcow2", f"{COPY}.json"}
    path = Path(snapshot.url.removeprefix("file://"))
    assert "identical" in qemu_img("compare", str(disk_of(settings)), str(path))
    with pytest.raises(InvalidMessage, match="image_id: there is such a snapshot already"):
        disks.copies.prepare(order)
    disks.copies.discard(order)
    assert path.exists(), "what was refused undoes nothing"
    disks.copies.take_back(order)
    assert everything_in(settings) == set()
    with pytest.raises(CopyNotFound):
        disks.copies.get_snapshot(COPY)


def test_what_an_agent_left_unfinished_is_removed(
    disks: NodeDisks, settings: StorageSettings, instance: Instance
) -> None:
    order = an_order(instance)
    disks.copies.prepare(order)
    assert disks.copies.list_backups() == []
    disks.copies.tidy(lambda uuid: uuid == instance.uuid)
    disks.copies.copy(order, ignore)
    disks.copies.prepare(order)
    disks.copies.tidy(lambda uuid: False)
    assert everything_in(settings) == set()
    make(disks, order)
    (settings.backup_dir / COPY).rename(settings.backup_dir / f".deleting-{COPY}")
    open_disks(settings)
    assert everything_in(settings) == set()


def test_what_cannot_be_copied(disks: NodeDisks, settings: StorageSettings, instance: Instance) -> None:
    (device,) = instance.block_devices
    secret = msgspec.structs.replace(device, encryption=Encryption(secret_uuid=UUID))
    for order, reason in (
        (an_order(instance, devices=[secret]), "disks: is encrypted"),
        (an_order(instance, parent=LATER), "parent: there is no such backup"),
        (an_order(instance, copy_id="../x"), "backup_id: is not a uuid"),
        (an_order(instance, target="rbd"), "target: this node makes nothing in Ceph"),
        (an_order(instance, target="nbd://host:70000/x"), "target: is not nbd://HOST:PORT/PREFIX"),
        (an_order(instance, kind="snapshot", target="rbd"), "backend: disk0 is in a local file"),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            disks.copies.prepare(order)
    with pytest.raises(StorageError, match=r"target nbd://127\.0\.0\.1:1/x-: Connection refused"):
        disks.copies.prepare(an_order(instance, target="nbd://127.0.0.1:1/x-"))
    with pytest.raises(InsufficientResources):
        open_disks(replace(settings, reserved_space=1 << 60)).copies.prepare(an_order(instance))
    assert everything_in(settings) == set()


def test_what_does_not_fit_is_not_restored(disks: NodeDisks, settings: StorageSettings, instance: Instance) -> None:
    with pytest.raises(CopyNotFound):
        disks.copies.prepare_restore(instance, COPY, ignore)
    make(disks, an_order(instance))
    qemu_img("resize", "--shrink", "-q", str(disk_of(settings)), "512M")
    with pytest.raises(InvalidMessage, match="backup_id: the backup has 1073741824 bytes, the disk only 536870912"):
        disks.copies.prepare_restore(instance, COPY, ignore)
    other = msgspec.structs.replace(instance, block_devices=[])
    with pytest.raises(InvalidMessage, match="the instance has no such disk of its own"):
        disks.copies.prepare_restore(other, COPY, ignore)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An NBD server with an export for disk0; it has been used before."""
    path = tmp_path / "exported.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "1G")
    qemu_io(path, "write -P 9 512M 64k")
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        port = candidate.getsockname()[1]
    words = ("-t", "-f", "qcow2", "-b", "127.0.0.1", "-p", str(port), "-x", "x-disk0", str(path))
    process = subprocess.Popen(["qemu-nbd", "--fork", "--pid-file", str(tmp_path / "pid"), *words])
    assert process.wait() == 0
    yield f"nbd://127.0.0.1:{port}/x-"
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)


def test_a_backup_on_an_nbd_server(
    disks: NodeDisks, settings: StorageSettings, instance: Instance, server: str, tmp_path: Path
) -> None:
    write(disk_of(settings), 1)
    make(disks, an_order(instance, target=server))
    same = ("compare", "--force-share", str(disk_of(settings)), str(tmp_path / "exported.qcow2"))
    assert "identical" in qemu_img(*same)
    write(disk_of(settings), 2)
    disks.copies.prepare_restore(instance, COPY, ignore)
    disks.copies.exchange(instance, COPY)
    disks.copies.finish_restore(instance)
    assert has(disk_of(settings), 1)
    make(disks, an_order(instance, LATER, target=server))
    assert {one.backup_id: one.overwritten_by for one in disks.copies.list_backups()} == {COPY: LATER, LATER: None}
    with pytest.raises(InvalidMessage, match=f"backup_id: backup {LATER} went to the same exports"):
        disks.copies.prepare_restore(instance, COPY, ignore)
    with pytest.raises(InvalidMessage, match="target: export y-disk0"):
        disks.copies.prepare(an_order(instance, UUID, target=server.replace("/x-", "/y-")))
    qemu_img("resize", "-q", str(disk_of(settings)), "2G")
    with pytest.raises(InvalidMessage, match="target: its export x-disk0 has 1073741824 bytes, and the disk has"):
        disks.copies.prepare(an_order(instance, UUID, target=server))
    for one in (COPY, LATER):
        disks.copies.delete_backup(one)
    assert everything_in(settings) == set()
