"""Disks of one instance that its block server serves over vhost-user, and a virtio driver for each."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

from compute_agent.block.open_disks import OpenDisks
from compute_agent.host.processes import Process
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume, RbdConnection, RbdVolume
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import Disk, VhostUserSource
from compute_agent.instance.model import Flavor, Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.settings import OwnPool, RbdSettings
from compute_agent.storage.server.control import Control
from compute_agent.storage.server.launch import find_servers
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.server.settings import BLOCK_SERVER_UIDS, BlockServerSettings
from compute_agent.storage.settings import StorageSettings
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.vhost_user_blk import VhostUserBlock
from sandbox.ceph import Ceph
from tests.unit.storage.making import ignore, local_disk, make_instance, make_qcow2, qemu_img
from tests.unit.virt.vmm.parts import Parts
from tests.unit.virt.vmm.virtio.driver import Driver, DriverQueue
from tests.unit.virt.vmm.virtio.storage import OK, SECTOR, flush, read_sectors, write_sectors

FIRST_USER = 1_900_700_000 + os.getpid() % 1000 * BLOCK_SERVER_UIDS
"""Nobody else's, though tests may run beside each other."""

BLANK = BlockDevice(source_type="blank", size_gb=1)

ELSEWHERE = 0x200000
"""In the guest's memory: where no driver has had its queues yet."""

Agent = Callable[..., NodeDisks]
Plug = Callable[[Disk], Driver]


@pytest.fixture
def settings(ceph: Ceph, directory: Path, tmp_path: Path) -> StorageSettings:
    for name in ("sources", "volumes"):
        (tmp_path / name).mkdir()
    user = ClusterUser(auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    run_dir = directory / uuid.uuid4().hex[:8]
    return StorageSettings(
        disk_dir=tmp_path / "disks",
        image_dir=tmp_path / "images",
        snapshot_dir=tmp_path / "snapshots",
        backup_dir=tmp_path / "backups",
        rbd=RbdSettings(
            ceph=CephSettings(conf_dir=ceph.conf_dir, secret_dir=ceph.secret_dir),
            servers=BlockServerSettings(run_dir=run_dir, uid_base=FIRST_USER),
            state_dir=tmp_path / "ceph",
            own_pool=OwnPool(user=user, pool=ceph.pool),
        ),
        image_sources=(tmp_path / "sources",),
        volume_dirs=(tmp_path / "volumes",),
        reserved_space=0,
    )


@pytest.fixture
def ended() -> Queue[str]:
    """The instances whose servers have ended unasked."""
    return Queue()


@pytest.fixture
def agent(settings: StorageSettings, ended: Queue[str]) -> Iterator[Agent]:
    """Each call is another life of the agent, with other settings. In the end, nothing of any server may be left."""
    lives: list[NodeDisks] = []

    def begin(**changes: Any) -> NodeDisks:
        if lives:
            lives[-1].close()
        lives.append(NodeDisks(replace(settings, **changes), BlockServers(settings.rbd.servers, ended.put)))
        return lives[-1]

    yield begin
    for instance_uuid in lives[-1].inspect():
        lives[-1].delete(instance_uuid)
    lives[-1].close()
    assert find_servers(settings.rbd.servers.run_dir) == {}
    assert {entry.name for entry in settings.rbd.servers.run_dir.iterdir()} <= {"fork-server.lock"}


@pytest.fixture
def disks(agent: Agent) -> NodeDisks:
    return agent()


@pytest.fixture
def plug(parts: Parts) -> Iterator[Plug]:
    drivers: list[Driver] = []

    def plug(disk: Disk) -> Driver:
        device = VhostUserBlock(connection_of(disk), parts.ram)
        drivers.append(Driver(parts, VirtioPci(device, parts.ram, parts.interrupts, parts.kvm)))
        return drivers[-1]

    yield plug
    for driver in drivers:
        driver.device.close()


@pytest.fixture
def kinds(settings: StorageSettings, ceph: Ceph, tmp_path: Path) -> dict[str, BlockDevice]:
    """A disk of each, with sevens at 1 MiB; all have 64 MiB."""
    image = make_qcow2(tmp_path / "image.qcow2")
    raw, name = settings.volume_dirs[0] / "volume.raw", f"volume-{uuid.uuid4()}"
    qemu_img("convert", "-O", "raw", str(tmp_path / "image.qcow2"), str(raw))
    ceph.rbd("import", "--no-progress", str(raw), f"{ceph.pool}/{name}")
    in_ceph = RbdVolume(name=f"{ceph.pool}/{name}", auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    return {
        "overlay": local_disk(settings.image_sources[0], image, size_gb=None),
        "raw": a_volume(FileConnection(data=FileVolume(path=str(raw), format="raw"))),
        "rbd": a_volume(RbdConnection(data=in_ceph)),
    }


def a_volume(connection: FileConnection | RbdConnection) -> BlockDevice:
    return BlockDevice(source_type="volume", volume_id=str(uuid.uuid4()), connection_info=connection)


def made(disks: NodeDisks, *devices: BlockDevice, vcpus: int = 1) -> Instance:
    instance = make_instance(*devices, flavor=Flavor(vcpus=vcpus, memory_mb=64))
    disks.create(instance, ignore)
    return with_named_devices(instance)


def served(disks: NodeDisks, instance: Instance) -> Sequence[Disk]:
    return disks.connect(instance, vhost_user=True)


def connection_of(disk: Disk) -> socket.socket:
    assert isinstance(disk.source, VhostUserSource)
    return socket.socket(fileno=disk.source.fd)


def server_of(settings: StorageSettings, instance: Instance) -> Process:
    return find_servers(settings.rbd.servers.run_dir)[instance.uuid]


def content(queue: DriverQueue, offset: int) -> bytes:
    status, found = read_sectors(queue, offset // SECTOR, SECTOR)
    assert status == OK
    return found


def write(queue: DriverQueue, offset: int, byte: bytes) -> None:
    assert (write_sectors(queue, offset // SECTOR, byte * SECTOR), flush(queue)) == (OK, OK)


def running(disks: NodeDisks, plug: Plug, *devices: BlockDevice) -> tuple[Instance, list[DriverQueue]]:
    """An instance without a config drive, and what its guest has of its disks."""
    instance = with_named_devices(msgspec.structs.replace(made(disks, *devices), config_drive=False))
    queues = []
    for number, disk in enumerate(served(disks, instance)):
        queues += plug(disk).set_up(address=0x100000 * (number + 1))
    return instance, queues


def opened(disks: NodeDisks, instance: Instance) -> OpenDisks:
    found = disks.find_served_disks(instance)
    assert found is not None
    return found


class Killed(BaseException):
    """SIGKILL: nothing in the agent may catch it."""


STRIDE = int(os.environ.get("DEATHS_EVERY", "9"))


def moments() -> Iterator[int]:
    """At which an agent is killed: by default some of them, others on another day."""
    return count(1 + int(time.time() // 86400) % STRIDE, STRIDE)


def dies(monkeypatch: pytest.MonkeyPatch, moment: int, act: Callable[[], object]) -> bool:
    """Let an agent do something; True: it was killed, before or after something that it asked of a block server."""
    moments, ask = count(1), Control._ask

    def asked(*arguments: Any) -> Any:
        for what in (lambda: None, lambda: ask(*arguments)):
            answer = what()
            if next(moments) == moment:
                raise Killed
        return answer

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(Control, "_ask", asked)
        act()
        return False
    return True
