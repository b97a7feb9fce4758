"""Layers of disks that nobody has open: made, committed, emptied, folded; each by real files."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import DiskInUse, InvalidMessage
from compute_agent.instance.block_device import (
    BlockDevice,
    Encryption,
    FileConnection,
    FileVolume,
    RbdConnection,
    RbdVolume,
)
from compute_agent.instance.model import Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings
from tests.unit.storage.making import UUID, ignore, make_instance, number, open_disks, qemu_img

ONE, TWO = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "12")
OWN = BlockDevice(source_type="blank", size_gb=1, device_name="disk0")


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    path = tmp_path / "volumes"
    path.mkdir()
    return path


@pytest.fixture
def disks(settings: StorageSettings, volumes: Path) -> NodeDisks:
    return open_disks(replace(settings, volume_dirs=(volumes,)))


def a_volume(volumes: Path, access_mode: str = "rw") -> BlockDevice:
    """Raw, of 1 MiB."""
    path = volumes / "data.raw"
    path.write_bytes(bytes(1024**2))
    data = FileVolume(path=str(path), format="raw", access_mode=access_mode)  # type: ignore[arg-type]
    return BlockDevice(
        source_type="volume", device_name="disk0", volume_id=UUID, connection_info=FileConnection(data=data)
    )


def layered(device: BlockDevice, *layers: str) -> BlockDevice:
    return msgspec.structs.replace(device, layers=layers)


def with_two_layers(disks: NodeDisks, device: BlockDevice) -> Instance:
    """The first file holds 1 in its first block, the first layer 2 in its second, the newest 3 in its third."""
    instance = make_instance(device)
    disks.create(instance, ignore)
    present = device
    for content, layer in enumerate([ONE, TWO, None], start=1):
        source = disks.connect_disk(instance, present, vhost_user=False).source
        fill(source.path, source.format, content)  # type: ignore[union-attr]
        if layer is not None:
            disks.layers.make(instance, present, layer)
            present = layered(device, *present.layers, layer)
    return make_instance(present)


def fill(path: Path, image_format: str, content: int) -> None:
    write = f"write -P {content} {(content - 1) * 65536} 64k"
    subprocess.run(["qemu-io", "-f", image_format, "-c", write, path], check=True, capture_output=True, timeout=20)


def blocks(path: Path, image_format: str) -> list[int]:
    """What a guest would find in the first three."""
    raw = path.with_name("read.raw")
    qemu_img("convert", "-f", image_format, "-O", "raw", str(path), str(raw))
    content = raw.read_bytes()
    raw.unlink()
    return [content[at * 65536] for at in range(3)]


def test_the_newest_is_committed_and_its_file_goes(disks: NodeDisks, settings: StorageSettings) -> None:
    instance = with_two_layers(disks, OWN)
    (device,) = instance.block_devices
    for _ in range(2):  # a crash may make it happen twice
        disks.layers.commit(instance, device, TWO)
    below = layered(OWN, ONE)
    disks.layers.delete(instance, below, TWO)
    path = settings.disk_dir / UUID / f"disk0.qcow2.{ONE}"
    assert blocks(path, "qcow2") == [1, 2, 3]
    assert not path.with_name(f"disk0.qcow2.{TWO}").exists()


def test_one_in_the_middle_is_committed_under_the_newest(disks: NodeDisks, settings: StorageSettings) -> None:
    instance = with_two_layers(disks, OWN)
    (device,) = instance.block_devices
    for _ in range(2):
        disks.layers.commit(instance, device, ONE)
    disks.layers.delete(instance, layered(OWN, TWO), ONE)
    first = settings.disk_dir / UUID / "disk0.qcow2"
    assert blocks(first, "qcow2") == [1, 2, 0]
    assert blocks(first.with_name(f"disk0.qcow2.{TWO}"), "qcow2") == [1, 2, 3]


def test_the_newest_is_emptied(disks: NodeDisks, settings: StorageSettings) -> None:
    instance = with_two_layers(disks, OWN)
    (device,) = instance.block_devices
    disks.layers.empty(instance, device)
    assert blocks(settings.disk_dir / UUID / f"disk0.qcow2.{TWO}", "qcow2") == [1, 2, 0]


def test_a_volume_is_folded_also_where_that_was_cut_short(disks: NodeDisks, volumes: Path) -> None:
    instance = with_two_layers(disks, a_volume(volumes))
    (device,) = instance.block_devices
    disks.layers.commit(instance, device, TWO)
    disks.layers.delete(instance, layered(device, ONE), TWO)
    for _ in range(2):
        disks.layers.fold(instance, device)
    disks.delete(instance.uuid)
    assert blocks(volumes / "data.raw", "raw") == [1, 2, 3]
    assert [path.name for path in volumes.iterdir()] == ["data.raw"]


def test_a_volume_with_layers_is_nobody_else_s(disks: NodeDisks, settings: StorageSettings, volumes: Path) -> None:
    instance = with_two_layers(disks, a_volume(volumes))
    disks.disconnect(instance.uuid)
    other = number(make_instance(a_volume(volumes)), 7)
    (settings.disk_dir / other.uuid).mkdir()
    with pytest.raises(DiskInUse, match=f"has snapshots, such as {ONE}, of .*instance {UUID}"):
        disks.connect(other, vhost_user=False)


def test_another_volume_whose_name_is_a_uuid_is_no_layer(disks: NodeDisks, volumes: Path) -> None:
    (volumes / ONE).touch()
    instance = make_instance(a_volume(volumes))
    disks.create(instance, ignore)
    disks.connect(instance, vhost_user=False)
    disks.disconnect(instance.uuid)
    assert {path.name for path in volumes.iterdir()} == {"data.raw", ONE}


def test_deleting_an_own_disk_takes_its_layers_along(disks: NodeDisks, settings: StorageSettings) -> None:
    instance = with_two_layers(disks, OWN)
    disks.delete_disk(instance.uuid, OWN)
    assert [path.name for path in (settings.disk_dir / UUID).glob("disk0*")] == []


@pytest.mark.parametrize("what", ["in Ceph", "encrypted", "read-only"])
def test_what_can_have_no_layers_is_told_what_to_do(disks: NodeDisks, volumes: Path, what: str) -> None:
    in_ceph = RbdConnection(data=RbdVolume(name="volumes/volume-1"))
    device = {
        "in Ceph": BlockDevice(source_type="volume", device_name="disk0", volume_id=UUID, connection_info=in_ceph),
        "encrypted": msgspec.structs.replace(a_volume(volumes), encryption=Encryption(secret_uuid=UUID)),
        "read-only": a_volume(volumes, "ro"),
    }[what]
    with pytest.raises(InvalidMessage, match=f"disk: is {what}"):
        disks.layers.check(make_instance(device), device)
