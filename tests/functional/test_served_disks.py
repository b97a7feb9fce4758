"""Every kind of disk, served over vhost-user to a hypervisor that opens none: read and written by a virtio driver."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from compute_agent.errors import DiskInUse, InvalidMessage, StorageError
from compute_agent.instance.block_device import (
    MOST_LAYERS,
    BlockDevice,
    DiskQos,
    Encryption,
    FileConnection,
    FileVolume,
)
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.model import Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.server.launch import find_servers
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.device import VERSION_1
from compute_agent.virt.vmm.virtio.vhost_user_blk import VhostUserBlock
from sandbox.ceph import Ceph
from tests.functional.containers import make_encrypted
from tests.functional.serving import (
    BLANK,
    ELSEWHERE,
    FIRST_USER,
    Agent,
    Plug,
    a_volume,
    agent,
    connection_of,
    content,
    disks,
    ended,
    kinds,
    made,
    plug,
    served,
    server_of,
    settings,
    write,
)
from tests.unit.storage.making import UUID, ignore, make_instance, number
from tests.unit.storage.server.test_admission import die_over
from tests.unit.virt.vmm.parts import parts
from tests.unit.virt.vmm.virtio.driver import Driver, DriverQueue
from tests.unit.virt.vmm.virtio.storage import IO_ERROR, MIB, SECTOR, write_sectors

__all__ = ["agent", "disks", "ended", "kinds", "parts", "plug", "settings"]

GIB = 1024**3
PASSPHRASE = "open sesame"
READ_ONLY = 1 << 5


@pytest.fixture(scope="module")
def secret(ceph: Ceph) -> Path:
    path = ceph.secret_dir / str(uuid.uuid4())
    path.write_text(PASSPHRASE)
    path.chmod(0o600)
    return path


def block(driver: Driver) -> VhostUserBlock:
    device = driver.device.agreement.device
    assert isinstance(device, VhostUserBlock)
    return device


def capacity(driver: Driver) -> int:
    return driver.configuration(0, 8) * SECTOR


@pytest.mark.parametrize("kind", ["overlay", "raw", "rbd"])
def test_a_disk(kind: str, kinds: dict[str, BlockDevice], agent: Agent, plug: Plug, settings: StorageSettings) -> None:
    disks = agent()
    instance = made(disks, kinds[kind])
    disk, config = served(disks, instance)
    config.close()
    driver = plug(disk)
    (queue,) = driver.set_up()
    assert capacity(driver) == 64 * MIB
    assert content(queue, MIB) == b"\7" * SECTOR
    write(queue, 2 * MIB, b"\5")
    pid = server_of(settings, instance).pid
    disks = agent()
    assert not disks.is_cut_off(instance, vhost_user=True)
    assert server_of(settings, instance).pid == pid
    write(queue, 3 * MIB, b"\4")
    driver.device.close()
    disks.disconnect(instance.uuid)
    assert find_servers(settings.rbd.servers.run_dir) == {}
    assert list(settings.rbd.servers.run_dir.glob(f"{instance.uuid}*")) == []
    (queue,) = plug(served(disks, instance)[0]).set_up(address=ELSEWHERE)
    assert [content(queue, at * MIB)[:1] for at in (1, 2, 3)] == [b"\7", b"\5", b"\4"]


@pytest.mark.parametrize("kind", ["overlay", "raw", "rbd"])
def test_a_disk_grows(kind: str, kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug) -> None:
    instance = made(disks, kinds[kind])
    disk, config = served(disks, instance)
    config.close()
    (queue,) = plug(disk).set_up()
    for _ in range(2):
        disks.grow_served_disk(instance, instance.block_devices[0], GIB)
    write(queue, GIB - SECTOR, b"\6")
    assert content(queue, MIB) == b"\7" * SECTOR
    with pytest.raises(InvalidMessage, match=f"the disk has {GIB} bytes"):
        disks.grow_served_disk(instance, instance.block_devices[0], 64 * MIB)


@pytest.fixture(scope="module")
def containers(secret: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """16 MiB in each format."""
    directory = tmp_path_factory.mktemp("containers")
    return {format: make_encrypted(directory / format, format, secret) for format in ("qcow2", "luks")}


@pytest.fixture(params=["qcow2", "luks", "rbd"])
def encrypted(
    request: pytest.FixtureRequest, containers: dict[str, Path], secret: Path, settings: StorageSettings, ceph: Ceph
) -> BlockDevice:
    """A disk with a container: a volume in a file, or an instance's own in Ceph, made before."""
    encryption, path = Encryption(secret_uuid=secret.name), settings.volume_dirs[0] / "container"
    if request.param == "rbd":
        ceph.rbd("import", "--no-progress", str(containers["luks"]), f"{ceph.pool}/{UUID}_disk0")
        return BlockDevice(source_type="blank", size_gb=1, backend="rbd", encryption=encryption)
    shutil.copy(containers[request.param], path)
    volume = FileVolume(path=str(path), format="raw" if request.param == "luks" else "qcow2")
    return msgspec.structs.replace(a_volume(FileConnection(data=volume)), encryption=encryption)


def test_an_encrypted_disk(
    encrypted: BlockDevice,
    disks: NodeDisks,
    plug: Plug,
    settings: StorageSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "qemu.qmp")
    instance = with_named_devices(make_instance(encrypted, config_drive=False))
    (settings.disk_dir / instance.uuid).mkdir()
    driver = plug(served(disks, instance)[0])
    (queue,) = driver.set_up()
    assert capacity(driver) == 16 * MIB
    disks.grow_served_disk(instance, instance.block_devices[0], GIB)
    write(queue, GIB - SECTOR, b"\6")
    assert '"key-secret": "key"' in caplog.text, "the traffic is in there"
    assert PASSPHRASE not in caplog.text


def test_the_config_drive_is_read_only(disks: NodeDisks, plug: Plug) -> None:
    *_, config = served(disks, made(disks, BLANK))
    assert (config.name, config.read_only) == ("config", True)
    driver = plug(config)
    (queue,) = driver.set_up(VERSION_1 | READ_ONLY)
    assert driver.offered() & READ_ONLY
    assert content(queue, 32 * 1024)[1:6] == b"CD001", "ISO 9660's first descriptor"
    assert write_sectors(queue, 64, bytes(SECTOR)) == IO_ERROR


def test_a_queue_for_each_cpu(disks: NodeDisks, plug: Plug) -> None:
    said = msgspec.structs.replace(BLANK, queues=3)
    disk, other, config = served(disks, made(disks, BLANK, said, vcpus=2))
    config.close()
    assert [len(block(plug(one)).queue_sizes) for one in (disk, other)] == [2, 3]


@pytest.fixture(params=["overlay", "rbd"])
def device(request: pytest.FixtureRequest, kinds: dict[str, BlockDevice]) -> BlockDevice:
    return kinds[request.param]


def test_a_server_that_dies_is_replaced(
    device: BlockDevice, disks: NodeDisks, plug: Plug, settings: StorageSettings, ended: Queue[str]
) -> None:
    instance = made(disks, device)
    disk, config = served(disks, instance)
    config.close()
    driver = plug(disk)
    (queue,) = driver.set_up()
    write(queue, 2 * MIB, b"\5")
    server_of(settings, instance).kill()
    assert ended.get(timeout=10) == instance.uuid
    assert disks.is_cut_off(instance, vhost_user=True)
    disk, config = served(disks, instance)
    config.close()
    assert not disks.is_cut_off(instance, vhost_user=True)
    driver.write(Register.STATUS, 1, 0)
    block(driver).reconnect(connection_of(disk))
    (queue,) = driver.set_up(address=ELSEWHERE)
    assert content(queue, 2 * MIB) == b"\5" * SECTOR
    write(queue, 2 * MIB, b"\6")


def test_a_file_belongs_to_whom_it_did(
    disks: NodeDisks, kinds: dict[str, BlockDevice], plug: Plug, settings: StorageSettings
) -> None:
    (volume,) = settings.volume_dirs[0].iterdir()
    os.chown(volume, 1234, 5678)
    volume.chmod(0o640)
    instance = made(disks, kinds["raw"], kinds["overlay"])
    before = {
        path: path.stat() for path in (volume, *settings.disk_dir.rglob("*.*"), *settings.image_dir.glob("*.qcow2"))
    }
    driver = plug(served(disks, instance)[0])
    assert len(before) == 4
    for path, status in before.items():
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode) == status[4:6] + status[:1]
    (queue,) = driver.set_up()
    write(queue, 2 * MIB, b"\5")
    driver.device.close()
    disks.disconnect(instance.uuid)
    assert disks.connect(instance, vhost_user=False)


def test_a_file_that_an_agent_died_over_belongs_to_whom_it_did(
    agent: Agent, settings: StorageSettings, tmp_path: Path
) -> None:
    agent()
    volume = tmp_path / "volumes" / "volume.raw"
    volume.touch(mode=0o400)
    os.chown(volume, 1234, 5678)
    before, paths = owner_and_mode(volume), ServerPaths(settings.rbd.servers.run_dir / str(uuid.uuid4()))
    paths.create(FIRST_USER)
    die_over(volume, paths)
    assert owner_and_mode(volume)[0] == FIRST_USER
    agent()
    assert owner_and_mode(volume) == before


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode


def test_one_writer(disks: NodeDisks, kinds: dict[str, BlockDevice], settings: StorageSettings) -> None:
    instance = made(disks, kinds["raw"])
    for disk in served(disks, instance):
        disk.close()
    other = number(instance, 7)
    disks.create(other, ignore)
    with pytest.raises(DiskInUse, match=f"is in use by this host, instance {instance.uuid}"):
        served(disks, other)
    disks.disconnect(instance.uuid)
    for disk in served(disks, other):
        disk.close()


def test_limits_change_while_a_disk_is_served(disks: NodeDisks, plug: Plug) -> None:
    limited = msgspec.structs.replace(BLANK, qos=DiskQos(total_iops_sec=5), detect_zeroes="unmap")
    instance = made(disks, limited)
    (queue,) = plug(served(disks, instance)[0]).set_up()
    assert seconds_of(queue, 15) > 1
    for _ in range(2):
        limit(disks, instance, None)
    assert seconds_of(queue, 15) < 1
    limit(disks, instance, DiskQos(total_iops_sec=5, group_name="slow"))
    assert seconds_of(queue, 15) > 1


def limit(disks: NodeDisks, instance: Instance, qos: DiskQos | None) -> None:
    opened = disks.find_served_disks(instance)
    assert opened is not None
    opened.set_disk_qos("disk0", qos)


def seconds_of(queue: DriverQueue, reads: int) -> float:
    began = time.monotonic()
    for _ in range(reads):
        content(queue, 0)
    return time.monotonic() - began


def test_layers_are_served(disks: NodeDisks, kinds: dict[str, BlockDevice], plug: Plug) -> None:
    """Made while the instance did not run."""
    instance = made(disks, kinds["overlay"])
    for _ in range(MOST_LAYERS):
        (device,), layer = instance.block_devices, str(uuid.uuid4())
        disks.layers.make(instance, device, layer)
        device = msgspec.structs.replace(device, layers=(*device.layers, layer))
        instance = msgspec.structs.replace(instance, block_devices=[device])
    driver = plug(served(disks, instance)[0])
    (queue,) = driver.set_up()
    assert content(queue, MIB) == b"\7" * SECTOR
    driver.device.close()
    disks.disconnect(instance.uuid)


def test_a_disk_comes_and_goes(
    disks: NodeDisks, kinds: dict[str, BlockDevice], plug: Plug, settings: StorageSettings
) -> None:
    instance = made(disks, BLANK)
    for disk in served(disks, instance):
        disk.close()
    for kind in ("raw", "rbd"):
        volume = msgspec.structs.replace(kinds[kind], device_name="disk1")
        driver = plug(disks.connect_disk(instance, volume, vhost_user=True))
        (queue,) = driver.set_up(address=ELSEWHERE if kind == "rbd" else 0x100000)
        assert content(queue, MIB) == b"\7" * SECTOR
        driver.device.close()
        disks.disconnect_disk(instance.uuid, volume)
    assert not disks.is_cut_off(instance, vhost_user=True)
    assert len(find_servers(settings.rbd.servers.run_dir)) == 1


def test_a_copy_that_was_cut_short_is_not_in_the_way(
    disks: NodeDisks, kinds: dict[str, BlockDevice], plug: Plug
) -> None:
    """An agent was killed while it copied a stopped instance's disk, over NBD."""
    instance = made(disks, kinds["rbd"])
    disks.connect(instance, vhost_user=False)[0].close()
    (queue,) = plug(served(disks, instance)[0]).set_up()
    assert content(queue, MIB) == b"\7" * SECTOR
    with pytest.raises(StorageError, match="disk0 is served to its guest, over vhost-user-blk"):
        disks.connect(instance, vhost_user=False)


def test_the_owner_s_encrypted_volume_does_not_grow(
    disks: NodeDisks, kinds: dict[str, BlockDevice], secret: Path
) -> None:
    encrypted = msgspec.structs.replace(kinds["rbd"], encryption=Encryption(secret_uuid=secret.name))
    with pytest.raises(InvalidMessage, match="disk: an encrypted volume in Ceph cannot grow while this guest runs"):
        disks.grow_served_disk(made(disks, encrypted), encrypted, GIB)
