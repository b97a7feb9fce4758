"""Snapshots that stay beside a disk: from one moment on the guest writes to an overlay, which is committed back."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import (
    MOST_LAYERS,
    BlockDevice,
    DiskQos,
    Encryption,
    FileConnection,
    FileVolume,
)
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Accepted
from sandbox.commands import run
from sandbox.node import Node
from tests.functional.contents import word_at
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import attach, run_inside

MIB = 1024**2


@pytest.fixture
def guest(guests: Guests) -> Instance:
    """Running, with an empty disk of 1 GiB."""
    return guests.boot(an_order(config_drive=False))


def disk_of(node: Node, guest: Instance) -> Path:
    return node.directory / "state/disks" / guest.uuid / "disk0.qcow2"


def overlay_of(disk: Path, snapshot: str) -> Path:
    return disk.with_name(f"{disk.name}.{snapshot}")


def take(guests: Guests, guest: Instance, disk: str = "disk0") -> str:
    snapshot = str(uuid.uuid4())
    guests.finish(guests.client.volume_snapshot_create(guest.uuid, disk, snapshot))
    return snapshot


def delete(guests: Guests, guest: Instance, snapshot: str, disk: str = "disk0") -> None:
    guests.finish(guests.client.volume_snapshot_delete(guest.uuid, disk, snapshot))


def layers(guests: Guests, guest: Instance, disk: str = "disk0") -> list[str]:
    devices = guests.view(guest.uuid).instance.block_devices
    return next(list(device.layers) for device in devices if disk in (device.device_name, device.volume_id))


def write(guests: Guests, guest: Instance, word: str, at: int, disk: str = "vda") -> None:
    """Durably."""
    run_inside(guests, guest.uuid, f"echo {word} | dd of=/dev/{disk} bs=512 seek={at // 512} conv=sync,fsync,notrunc")


def word(guests: Guests, guest: Instance, at: int, disk: str = "vda") -> str:
    """What the guest itself reads, from the disk and not from its memory."""
    read = f"dd if=/dev/{disk} bs=512 skip={at // 512} count=1 iflag=direct 2>/dev/null | head -n 1"
    return run_inside(guests, guest.uuid, read).strip("\0")


def a_volume(node: Node, image_format: str = "raw") -> BlockDevice:
    volume_id = str(uuid.uuid4())
    path = node.volumes / f"{volume_id}.{image_format}"
    run("qemu-img", "create", "-q", "-f", image_format, path, "64M")
    volume = FileVolume(path=str(path), format=image_format)
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=FileConnection(data=volume))


def path_of(device: BlockDevice) -> Path:
    assert isinstance(device.connection_info, FileConnection)
    return Path(device.connection_info.data.path)


def text_at(path: Path, at: int) -> str:
    """Of a raw disk."""
    with path.open("rb") as file:
        file.seek(at)
        return file.read(512).split(b"\n")[0].strip(b"\0").decode()


def refusal(guests: Guests, accepted: Accepted) -> str:
    fault = guests.fail(accepted).fault
    assert fault is not None
    return f"{fault.type}: {fault.message}"


def stop(guests: Guests, guest: Instance) -> None:
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))


def start(guests: Guests, guest: Instance) -> None:
    booted = guests.console(guest.uuid).count("GUEST READY")
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=booted + 1)


def test_what_was_there_stays_and_is_put_together_again(node: Node, guests: Guests, guest: Instance) -> None:
    disk = disk_of(node, guest)
    write(guests, guest, "first", 0)
    one = take(guests, guest)
    write(guests, guest, "second", 0)
    write(guests, guest, "more", MIB)
    two = take(guests, guest)
    write(guests, guest, "third", 0)
    assert layers(guests, guest) == [one, two]
    assert word_at(disk, 0) == "first", "somebody may copy it meanwhile"
    assert word_at(overlay_of(disk, one), 0) == "second"
    delete(guests, guest, one)
    assert layers(guests, guest) == [two]
    assert (word_at(disk, 0), word_at(disk, MIB)) == ("second", "more")
    assert (word(guests, guest, 0), word(guests, guest, MIB)) == ("third", "more")
    delete(guests, guest, two)
    write(guests, guest, "last", 2 * MIB)
    assert [word(guests, guest, at) for at in (0, MIB, 2 * MIB)] == ["third", "more", "last"]
    stop(guests, guest)
    assert [word_at(disk, at) for at in (0, MIB, 2 * MIB)] == ["third", "more", "last"]
    assert [entry.name for entry in disk.parent.iterdir()] == [disk.name]


def test_a_chain_grows_is_limited_suspended_and_started_anew(node: Node, guests: Guests, guest: Instance) -> None:
    disk = disk_of(node, guest)
    one = take(guests, guest)
    write(guests, guest, "second", 0)
    guests.finish(guests.client.set_disk_qos(guest.uuid, "disk0", DiskQos(total_iops_sec=1000)))
    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 2))
    write(guests, guest, "far", 1500 * MIB)
    guests.finish(guests.client.suspend_instance(guest.uuid))
    guests.finish(guests.client.resume_instance(guest.uuid))
    two = take(guests, guest)
    guests.finish(guests.client.reboot_instance(guest.uuid, reboot_type="HARD"))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert (word(guests, guest, 0), word(guests, guest, 1500 * MIB)) == ("second", "far")
    write(guests, guest, "third", 0)
    delete(guests, guest, two)
    delete(guests, guest, one)
    write(guests, guest, "last", MIB)
    assert "virtual size: 2 GiB" in run("qemu-img", "info", "-U", disk)
    stop(guests, guest)
    assert [word_at(disk, at) for at in (0, MIB, 1500 * MIB)] == ["third", "last", "far"]
    assert "No errors" in run("qemu-img", "check", disk)


def test_a_stopped_instance_takes_reverts_and_deletes_snapshots(node: Node, guests: Guests, guest: Instance) -> None:
    disk = disk_of(node, guest)
    write(guests, guest, "first", 0)
    stop(guests, guest)
    one, two = take(guests, guest), take(guests, guest)
    start(guests, guest)
    write(guests, guest, "wrong", 0)
    stop(guests, guest)
    with pytest.raises(InvalidMessage, match="snapshot_id: the disk has no such snapshot"):
        guests.client.volume_snapshot_revert(guest.uuid, "disk0", str(uuid.uuid4()))
    refused = refusal(guests, guests.client.volume_snapshot_revert(guest.uuid, "disk0", one))
    assert f"later snapshots stand on it: delete {two} first" in refused
    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 2))
    guests.finish(guests.client.volume_snapshot_revert(guest.uuid, "disk0", two))
    start(guests, guest)
    assert word(guests, guest, 0) == "first"
    write(guests, guest, "second", 0)
    stop(guests, guest)
    delete(guests, guest, one)
    assert word_at(overlay_of(disk, two), 0) == "second"
    delete(guests, guest, two)
    assert word_at(disk, 0) == "second"
    assert [entry.name for entry in disk.parent.iterdir()] == [disk.name]
    assert guests.view(guest.uuid).vm_state is VmState.STOPPED


def test_a_volume_keeps_what_was_written_to_its_layers(node: Node, guests: Guests, guest: Instance) -> None:
    device = a_volume(node)
    path, volume_id = path_of(device), str(device.volume_id)
    attach(guests, guest.uuid, device)
    write(guests, guest, "first", 0, "vdb")
    one, _ = take(guests, guest, volume_id), take(guests, guest, "disk1")
    write(guests, guest, "second", 0, "vdb")
    assert text_at(path, 0) == "first"
    with pytest.raises(InvalidMessage, match=r"volume_id: the disk has snapshots, .* delete them before detach_volume"):
        guests.client.detach_volume(guest.uuid, volume_id)
    other = guests.boot(an_order(config_drive=False))
    for change in (lambda: None, lambda: stop(guests, guest)):
        change()
        in_use = refusal(guests, guests.client.attach_volume(other.uuid, device))
        assert in_use.startswith("DiskInUse") and f"{node.host}, instance {guest.uuid}" in in_use
    start(guests, guest)
    delete(guests, guest, one, volume_id)
    write(guests, guest, "third", MIB, "vdb")
    guests.finish(guests.client.terminate_instance(guest.uuid))
    assert (text_at(path, 0), text_at(path, MIB)) == ("second", "third")
    assert [entry.name for entry in path.parent.glob(f"{path.name}*")] == [path.name]
    attach(guests, other.uuid, device)
    until(lambda: word(guests, other, 0, "vdb") == "second")


def test_the_agent_dies_while_a_layer_is_committed(node: Node, guests: Guests, guest: Instance) -> None:
    disk = disk_of(node, guest)
    write(guests, guest, "first", 0)
    snapshot = take(guests, guest)
    run_inside(guests, guest.uuid, "dd if=/dev/zero of=/dev/vda bs=1M seek=8 count=200 conv=fsync 2>/dev/null", 60)
    write(guests, guest, "second", 0)
    count = "while n=$((n + 1)); do echo $n | dd of=/dev/vda bs=512 seek=2048 conv=sync,fsync,notrunc; done"
    run_inside(guests, guest.uuid, f"({count}) >/dev/null 2>&1 & true")
    until(lambda: word(guests, guest, MIB))
    accepted = guests.client.volume_snapshot_delete(guest.uuid, "disk0", snapshot)
    until(lambda: disk.stat().st_blocks * 512 > 4 * MIB)  # the layer is being put into it
    node.kill()
    node.start()
    guests.finish(accepted)
    assert layers(guests, guest) == []
    before = int(word(guests, guest, MIB))
    until(lambda: int(word(guests, guest, MIB)) > before)
    assert word(guests, guest, 0) == "second"
    stop(guests, guest)
    assert word_at(disk, 0) == "second" and int(word_at(disk, MIB)) > before
    assert [entry.name for entry in disk.parent.iterdir()] == [disk.name]


def test_copies_and_layers_know_of_each_other(node: Node, guests: Guests, guest: Instance) -> None:
    write(guests, guest, "first", 0)
    first, second, third, fourth = (str(uuid.uuid4()) for _ in range(4))
    guests.finish(guests.client.backup_instance(guest.uuid, first))
    snapshot = take(guests, guest)
    write(guests, guest, "second", 0)
    refused = refusal(guests, guests.client.backup_instance(guest.uuid, second, parent=first))
    assert "make one without parent" in refused
    guests.finish(guests.client.backup_instance(guest.uuid, second))
    write(guests, guest, "third", MIB)
    guests.finish(guests.client.backup_instance(guest.uuid, third, parent=second))
    image_id = str(uuid.uuid4())
    guests.finish(guests.client.snapshot_instance(guest.uuid, image_id))
    image = Path(guests.client.get_snapshot(image_id).url.removeprefix("file://"))
    for path in (image, node.directory / "backups" / third / "disk0.qcow2"):
        assert (word_at(path, 0), word_at(path, MIB)) == ("second", "third")
    delete(guests, guest, snapshot)
    refused = refusal(guests, guests.client.backup_instance(guest.uuid, fourth, parent=third))
    assert "make one without parent" in refused
    take(guests, guest)
    stop(guests, guest)
    refused = refusal(guests, guests.client.restore_instance(guest.uuid, second))
    assert "the disk has snapshots" in refused and "delete them before restore_instance" in refused
    for backup_id in (third, second, first):
        guests.client.delete_backup(backup_id)
    guests.client.delete_snapshot(image_id)


def test_what_cannot_have_layers_is_refused_by_name(node: Node, guests: Guests) -> None:
    encryption = Encryption(secret_uuid=node.keep_secret("open sesame"))
    locked = BlockDevice(source_type="blank", size_gb=1, encryption=encryption)
    guest = guests.boot(an_order(config_drive=False, block_devices=[locked, a_volume(node, "qcow2")]))
    refused = refusal(guests, guests.client.volume_snapshot_create(guest.uuid, "disk0", str(uuid.uuid4())))
    assert "disk: is encrypted" in refused
    taken = [take(guests, guest, "disk1") for _ in range(MOST_LAYERS)]
    refused = refusal(guests, guests.client.volume_snapshot_create(guest.uuid, "disk1", str(uuid.uuid4())))
    assert f"has {MOST_LAYERS} snapshots, as many as it can have" in refused
    again = refusal(guests, guests.client.volume_snapshot_create(guest.uuid, "disk1", taken[0]))
    assert "the disk has such a snapshot already" in again
    assert layers(guests, guest, "disk1") == taken
    with pytest.raises(InvalidMessage, match=r"layers: .*volume_snapshot_create adds them"):
        layered = BlockDevice(source_type="blank", size_gb=1, volume_id=taken[0], layers=(taken[0],))
        guests.client.attach_volume(guest.uuid, layered)
