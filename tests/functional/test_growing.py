"""Encrypted disks grow while no guest has them open: the passphrase opens them, and the guest gets what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.instance.block_device import BlockDevice, Encryption, FileConnection, FileVolume
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.settings import StorageSettings
from tests.functional.containers import make_encrypted
from tests.unit.storage.making import (
    GIB,
    UUID,
    ignore,
    local_disk,
    make_instance,
    make_qcow2,
    no_ceph,
    open_disks,
    qemu_img,
)

MIB = 1024**2
ENCRYPTION = Encryption(secret_uuid=UUID)
PASSPHRASE = "open sesame"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / UUID
    path.parent.mkdir()
    path.write_text(PASSPHRASE)
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(secret: Path, tmp_path: Path) -> StorageSettings:
    for name in ("sources", "volumes"):
        (tmp_path / name).mkdir()
    rbd = no_ceph(tmp_path)
    return StorageSettings(
        disk_dir=tmp_path / "disks",
        image_dir=tmp_path / "images",
        snapshot_dir=tmp_path / "snapshots",
        backup_dir=tmp_path / "backups",
        rbd=replace(rbd, ceph=replace(rbd.ceph, secret_dir=secret.parent)),
        image_sources=(tmp_path / "sources",),
        volume_dirs=(tmp_path / "volumes",),
        reserved_space=0,
    )


@pytest.fixture
def disks(settings: StorageSettings) -> NodeDisks:
    return open_disks(settings)


def a_volume(path: Path, format: str) -> BlockDevice:
    data = FileVolume(path=str(path), format=format)  # type: ignore[arg-type]
    connection = FileConnection(data=data)
    return BlockDevice(
        source_type="volume", device_name="disk0", volume_id=UUID, connection_info=connection, encryption=ENCRYPTION
    )


def guests_size(path: Path, format: str, secret: Path) -> int:
    """Bytes, as QEMU sees them with the passphrase."""
    key = "key-secret" if format == "luks" else "encrypt.key-secret"
    options = f"driver={format},file.filename={path},{key}=s"
    said = qemu_img("info", "--object", f"secret,id=s,file={secret}", "--image-opts", options, "--output=json")
    return int(said.partition('"virtual-size": ')[2].partition(",")[0])


def test_an_overlay(disks: NodeDisks, settings: StorageSettings, tmp_path: Path, secret: Path) -> None:
    plain = local_disk(tmp_path / "sources", make_qcow2(tmp_path / "good.qcow2"))
    disks.create(make_instance(plain), ignore)
    path = settings.disk_dir / UUID / "disk0.qcow2"
    base = qemu_img("info", "-U", str(path)).partition("backing file: ")[2].split()[0]
    path.unlink()
    make_encrypted(path, "qcow2", secret, "-F", "qcow2", "-b", base)
    device = BlockDevice(source_type="image", device_name="disk0", image=plain.image, size_gb=1, encryption=ENCRYPTION)
    disks.grow_disk(make_instance(device), device, 3 * GIB, running=False)
    assert guests_size(path, "qcow2", secret) == 3 * GIB


@pytest.mark.parametrize("format", ["qcow2", "luks"])
def test_a_volume_in_a_file(disks: NodeDisks, tmp_path: Path, secret: Path, format: str) -> None:
    path = make_encrypted(tmp_path / "volumes" / "volume", format, secret)
    device = a_volume(path, "raw" if format == "luks" else "qcow2")
    instance = make_instance(device)
    disks.grow_disk(instance, device, 32 * MIB, running=False)
    assert guests_size(path, format, secret) == 32 * MIB
    disks.grow_disk(instance, device, 32 * MIB, running=False)
    with pytest.raises(InvalidMessage, match=f"the disk has {32 * MIB} bytes"):
        disks.grow_disk(instance, device, 16 * MIB, running=False)


def test_another_passphrase_opens_nothing(disks: NodeDisks, tmp_path: Path, secret: Path) -> None:
    device = a_volume(make_encrypted(tmp_path / "volumes" / "volume", "luks", secret), "raw")
    secret.write_text("another")
    with pytest.raises(StorageError, match="Invalid password"):
        disks.grow_disk(make_instance(device), device, 32 * MIB, running=False)


def test_what_is_no_container_is_named(disks: NodeDisks, tmp_path: Path) -> None:
    path = tmp_path / "volumes" / "volume"
    path.write_bytes(bytes(MIB))
    device = a_volume(path, "raw")
    with pytest.raises(StorageError, match="volume holds no LUKS container of version 1"):
        disks.grow_disk(make_instance(device), device, 2 * MIB, running=False)


def test_a_passphrase_that_cannot_be_weighed_is_weighed_again(tmp_path: Path) -> None:
    """A qemu-img that is out of luck twice, as the real one is on a busy machine."""
    program = tmp_path / "qemu-img"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/runs\n[ $(wc -l < {tmp_path}/runs) = 3 ] && exit 0\n"
                       "echo Unable to get accurate CPU usage >&2\nexit 1\n")  # fmt: skip
    program.chmod(0o755)
    tool = QemuImg(str(program), 20)
    tool.create_luks_header(tmp_path / "luks", PASSPHRASE)
    with pytest.raises(StorageError, match="accurate CPU usage"):
        tool.create_luks_header(tmp_path / "luks", PASSPHRASE)
