"""What is done with disks, ports and copies, as cases of deaths."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from compute_agent.instance.block_device import (
    BlockDevice,
    DiskQos,
    FileConnection,
    FileVolume,
    RbdConnection,
    RbdVolume,
)
from compute_agent.instance.state import VmState
from sandbox.commands import run
from sandbox.node import Node
from tests.functional.contents import word_at
from tests.functional.deaths import ROOT_MARK, VOLUME_MARK, Case, Scene
from tests.functional.life_deaths import have_other

NUMBER = 7
"""The sector of a root disk that says which backup it is."""

LOCAL = BlockDevice(source_type="blank", size_gb=1)
IN_CEPH = BlockDevice(source_type="blank", size_gb=1, backend="rbd")


def a_blank_disk(node: Node) -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1, volume_id=str(uuid.uuid4()))


def a_file_volume(node: Node) -> BlockDevice:
    volume_id = str(uuid.uuid4())
    path = node.volumes / f"{volume_id}.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    volume = FileVolume(path=str(path), format="qcow2")
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=FileConnection(data=volume))


def a_blank_disk_in_ceph(node: Node) -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1, backend="rbd", volume_id=str(uuid.uuid4()))


def a_volume_in_ceph(node: Node) -> BlockDevice:
    ceph, volume_id = node.ceph, str(uuid.uuid4())
    assert ceph is not None
    name = f"{ceph.pool}/volume-{volume_id}"
    ceph.rbd("create", name, "--size", "64M")
    data = RbdVolume(name=name, auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=RbdConnection(data=data))


KINDS: dict[str, tuple[BlockDevice, Callable[[Node], BlockDevice]]] = {
    "qcow2": (LOCAL, a_blank_disk),
    "rbd": (IN_CEPH, a_blank_disk_in_ceph),
    "file": (LOCAL, a_file_volume),
    "rbd volume": (IN_CEPH, a_volume_in_ceph),
}


def is_attached(scene: Scene) -> bool:
    if scene.volume.source_type == "blank":
        scene.mark("vdb", VOLUME_MARK)
    return scene.present_volume() is not None and scene.is_marked("vdb", VOLUME_MARK)


def has_grown(scene: Scene) -> bool:
    sectors = scene.run("cat /sys/block/vdb/size").split()
    return str(scene.number * 1024**3 // 512) in sectors and is_attached(scene)


def is_limited(scene: Scene) -> bool:
    present = scene.present_volume()
    return present is not None and present.qos == limits(scene) and is_attached(scene)


def limits(scene: Scene) -> DiskQos:
    return DiskQos(total_iops_sec=1000 + scene.number)


def back_up(scene: Scene) -> None:
    """The guest's disk, with a number that no other backup has."""
    scene.run(f"echo {scene.number} | dd of=/dev/vda bs=512 seek={NUMBER} conv=sync,fsync")
    scene.guests.finish(scene.client.backup_instance(scene.guest.uuid, scene.copy_id, disks=["disk0"]))


def back_up_before(scene: Scene) -> None:
    scene.parent_id = str(uuid.uuid4())
    scene.guests.finish(scene.client.backup_instance(scene.guest.uuid, scene.parent_id, disks=["disk0"]))


def back_up_for_other(scene: Scene) -> None:
    back_up(scene)
    have_other(scene, VmState.STOPPED)


def snapshot(scene: Scene) -> None:
    scene.guests.finish(scene.client.snapshot_instance(scene.guest.uuid, scene.copy_id))


def is_backed_up(scene: Scene) -> bool:
    path = scene.node.directory / "backups" / scene.copy_id / "disk0.qcow2"
    good = word_at(path, ROOT_MARK * 512) == "kept"
    for backup_id in filter(None, (scene.copy_id, scene.parent_id)):
        scene.client.delete_backup(backup_id)
    scene.parent_id = ""
    return good


def is_snapshot(scene: Scene) -> bool:
    path = Path(scene.client.get_snapshot(scene.copy_id).url.removeprefix("file://"))
    good = word_at(path, ROOT_MARK * 512) == "kept"
    scene.client.delete_snapshot(scene.copy_id)
    return good


def is_restored(scene: Scene) -> bool:
    scene.client.delete_backup(scene.copy_id)
    return content(scene, scene.other.uuid, NUMBER * 512) == str(scene.number)


def content(scene: Scene, instance_uuid: str, at: int) -> str:
    """A line of its root disk, which has no layers, from that byte on."""
    if scene.root.backend != "rbd":
        return word_at(scene.node.directory / "state/disks" / instance_uuid / "disk0.qcow2", at)
    ceph, path = scene.node.ceph, scene.node.directory / "exported.raw"
    assert ceph is not None
    ceph.rbd("export", "--no-progress", f"{ceph.pool}/{instance_uuid}_disk0", str(path))
    with path.open("rb") as file:
        file.seek(at)
        text = file.readline().strip(b"\0\n").decode()
    path.unlink()
    return text


def no_copy_is_left(scene: Scene) -> bool:
    return not [path for place in ("backups", "snapshots") for path in (scene.node.directory / place).iterdir()]


def give_other_the_volume(scene: Scene) -> None:
    scene.end_other()
    scene.have_volume(False)
    scene.boot_other(scene.volume)


def other_is_gone(scene: Scene) -> bool:
    gone = scene.other.uuid not in [one.instance.uuid for one in scene.client.list_instances()]
    scene.other = scene.guest
    return gone


CASES = {
    "attach": Case(
        operation="attach_volume",
        prepare=lambda scene: scene.have_volume(False),
        order=lambda scene, asked: scene.client.attach_volume(scene.guest.uuid, scene.volume, asked),
        check=is_attached,
    ),
    "detach": Case(
        operation="detach_volume",
        prepare=lambda scene: scene.have_volume(True),
        order=lambda scene, asked: scene.client.detach_volume(scene.guest.uuid, str(scene.volume.volume_id), asked),
        check=lambda scene: scene.present_volume() is None and "vdb" not in scene.run("ls /sys/block"),
    ),
    "grow": Case(
        operation="extend_volume",
        prepare=lambda scene: scene.have_volume(True),
        order=lambda scene, asked: scene.client.extend_volume(scene.guest.uuid, "disk1", scene.number, asked),
        check=has_grown,
    ),
    "limit": Case(
        operation="set_disk_qos",
        prepare=lambda scene: scene.have_volume(True),
        order=lambda scene, asked: scene.client.set_disk_qos(scene.guest.uuid, "disk1", limits(scene), asked),
        check=is_limited,
    ),
    "attach port": Case(
        operation="attach_interface",
        prepare=lambda scene: scene.have_port(False),
        order=lambda scene, asked: scene.client.attach_interface(scene.guest.uuid, scene.port, asked),
        check=lambda scene: scene.has_port() and scene.reaches_port(),
    ),
    "detach port": Case(
        operation="detach_interface",
        prepare=lambda scene: scene.have_port(True),
        order=lambda scene, asked: scene.client.detach_interface(scene.guest.uuid, scene.port.id, asked),
        check=lambda scene: not scene.has_port() and scene.port.mac_address not in scene.nics(),
    ),
    "terminate": Case(
        operation="terminate",
        prepare=give_other_the_volume,
        order=lambda scene, asked: scene.client.terminate_instance(scene.other.uuid, asked),
        check=other_is_gone,
        ends_other=True,
    ),
    "snapshot": Case(
        operation="snapshot",
        prepare=lambda scene: None,
        order=lambda scene, asked: scene.client.snapshot_instance(scene.guest.uuid, scene.copy_id, asked),
        check=is_snapshot,
    ),
    "backup": Case(
        operation="backup",
        prepare=lambda scene: None,
        order=lambda scene, asked: scene.client.backup_instance(
            scene.guest.uuid, scene.copy_id, asked, disks=["disk0"]
        ),
        check=is_backed_up,
    ),
    "incremental backup": Case(
        operation="backup",
        prepare=back_up_before,
        order=lambda scene, asked: scene.client.backup_instance(
            scene.guest.uuid, scene.copy_id, asked, disks=["disk0"], parent=scene.parent_id
        ),
        check=is_backed_up,
    ),
    "restore": Case(
        operation="restore",
        prepare=back_up_for_other,
        order=lambda scene, asked: scene.client.restore_instance(scene.other.uuid, scene.copy_id, asked),
        check=is_restored,
    ),
    "delete backup": Case(
        operation="delete_backup",
        prepare=back_up,
        order=lambda scene, _: scene.client.delete_backup(scene.copy_id),
        check=no_copy_is_left,
        is_journaled=False,
    ),
    "delete snapshot": Case(
        operation="delete_snapshot",
        prepare=snapshot,
        order=lambda scene, _: scene.client.delete_snapshot(scene.copy_id),
        check=no_copy_is_left,
        is_journaled=False,
    ),
}
