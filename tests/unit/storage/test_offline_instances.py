"""Disks of instances that do not run, made one file that stands on nothing."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import DeadlineExceeded, DiskInUse, InvalidMessage, StorageError
from compute_agent.instance.block_device import BlockDevice, Encryption, FileConnection, FileVolume
from compute_agent.instance.model import Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.offline.instances import disk_of, flattened
from compute_agent.storage.settings import StorageSettings

from .making import UUID, ignore, local_disk, make_instance, make_qcow2, qemu_img

LAYER = "11111111-2222-4333-8444-555555555555"
MIB = 1024**2


@pytest.fixture
def instance(disks: NodeDisks, sources: Path, qcow2_content: bytes) -> Instance:
    """An overlay whose guest has written, took a snapshot, and has written again."""
    device = msgspec.structs.replace(local_disk(sources, qcow2_content), device_name="disk0")
    instance = make_instance(device, config_drive=False)
    disks.create(instance, ignore)
    return instance


@pytest.fixture
def disk(instance: Instance, settings: StorageSettings) -> Path:
    return settings.disk_dir / UUID / "disk0.qcow2"


def write(path: Path, pattern: int, at: str) -> None:
    words = ["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} {at} 64k", str(path)]
    subprocess.run(words, check=True, capture_output=True, timeout=20)


def read(path: Path, at: int) -> int:
    """A byte, as a guest sees it."""
    raw = path.with_suffix(".raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(path), str(raw))
    with raw.open("rb") as file:
        file.seek(at)
        return file.read(1)[0]


def test_an_overlay_with_a_layer(instance: Instance, settings: StorageSettings, disk: Path, tmp_path: Path) -> None:
    write(disk, 8, "2M")
    layer = disk.with_name(f"{disk.name}.{LAYER}")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(disk), str(layer))
    write(layer, 9, "3M")
    device = msgspec.structs.replace(instance.block_devices[0], layers=[LAYER])
    with_layer = msgspec.structs.replace(instance, block_devices=[device])
    room = tmp_path / "room"
    room.mkdir()
    with flattened(disk_of(with_layer, "disk0", settings), room, time.monotonic() + 20) as flat:
        assert [read(flat, at * MIB) for at in (1, 2, 3)] == [7, 8, 9], "of the image, the disk, and the layer"
    assert list(room.iterdir()) == []


def test_a_volume_in_a_file(settings: StorageSettings, tmp_path: Path) -> None:
    make_qcow2(tmp_path / "volume.qcow2")
    volume = FileConnection(data=FileVolume(path=str(tmp_path / "volume.qcow2"), format="qcow2"))
    device = BlockDevice(source_type="volume", device_name="disk0", volume_id=UUID, connection_info=volume)
    with flattened(disk_of(make_instance(device), "disk0", settings), tmp_path, time.monotonic() + 20) as flat:
        assert read(flat, MIB) == 7


def test_what_cannot_be_looked_into(instance: Instance, settings: StorageSettings, disk: Path) -> None:
    def refused(reason: str, kind: type[Exception] = InvalidMessage, name: str = "disk0", **changes: object) -> None:
        device = msgspec.structs.replace(instance.block_devices[0], **changes)
        with pytest.raises(kind, match=reason):
            disk_of(msgspec.structs.replace(instance, block_devices=[device]), name, settings)

    refused("the instance has no such disk", name="disk7")
    refused("is encrypted", encryption=Encryption(secret_uuid=UUID))
    disk.rename(disk.with_suffix(".rbd"))
    refused("is in Ceph")
    disk.with_suffix(".rbd").unlink()
    refused("is missing", kind=StorageError)


def test_a_disk_that_is_written_to(instance: Instance, settings: StorageSettings, disk: Path, tmp_path: Path) -> None:
    words = ["stdbuf", "-oL", "qemu-io", "-f", "qcow2", str(disk)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        assert guest.stdin is not None
        assert guest.stdout is not None
        guest.stdin.write(b"write 0 4k\n")
        guest.stdin.flush()
        guest.stdout.readline()
        source = disk_of(instance, "disk0", settings)
        with pytest.raises(DiskInUse, match="a guest writes to it"), flattened(source, tmp_path, time.monotonic() + 9):
            pass
        guest.communicate(b"quit\n", timeout=10)


def test_no_time_is_left(instance: Instance, settings: StorageSettings, tmp_path: Path) -> None:
    source = disk_of(instance, "disk0", settings)
    room = tmp_path / "room"
    room.mkdir()
    slow = tmp_path / "qemu-img"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(DeadlineExceeded, match="in time"), flattened(source, room, time.monotonic()):
            pass
    assert list(room.iterdir()) == []
