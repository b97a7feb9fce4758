"""Disks come to a guest that runs, grow, are limited, and go again: in local files."""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice, DiskQos, Encryption, FileConnection, FileVolume
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.instance.wire import CacheMode
from sandbox.commands import run
from sandbox.node import Node
from tests.functional import shell
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import run_inside

MIB = 1024**2


def a_guest(guests: Guests) -> Instance:
    """With one disk, vda, and no config drive after it."""
    return guests.boot(an_order(config_drive=False))


def a_blank_disk(size_gb: int = 1) -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=size_gb, volume_id=str(uuid.uuid4()))


def a_file_volume(node: Node, *, image_format: str = "qcow2", access_mode: str = "rw") -> BlockDevice:
    volume_id = str(uuid.uuid4())
    path = node.volumes / f"{volume_id}.{image_format}"
    run("qemu-img", "create", "-q", "-f", image_format, path, "64M")
    volume = FileVolume(path=str(path), format=image_format, access_mode=access_mode)
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=FileConnection(data=volume))


def path_of(device: BlockDevice) -> Path:
    assert isinstance(device.connection_info, FileConnection)
    return Path(device.connection_info.data.path)


def attach(guests: Guests, instance_uuid: str, device: BlockDevice) -> str:
    """The disk's name in the instance."""
    shell.attach(guests, instance_uuid, device)
    devices = guests.view(instance_uuid).instance.block_devices
    return next(str(one.device_name) for one in devices if one.volume_id == device.volume_id)


def sectors(guests: Guests, instance_uuid: str, disk: str) -> int:
    return int(run_inside(guests, instance_uuid, f"cat /sys/block/{disk}/size"))


def test_a_disk_comes_and_goes_while_the_guest_runs(node: Node, guests: Guests) -> None:
    guest = a_guest(guests)
    device = a_blank_disk()
    assert attach(guests, guest.uuid, device) == "disk1"
    serial = str(device.volume_id)[:20]
    assert run_inside(guests, guest.uuid, "cat /sys/block/vdb/serial") == serial
    run_inside(guests, guest.uuid, "echo hello | dd of=/dev/vdb bs=512 conv=sync,fsync")
    guests.finish(guests.client.detach_volume(guest.uuid, str(device.volume_id)))
    assert run_inside(guests, guest.uuid, "ls /sys/block | grep -c vd") == "1"
    assert [one.device_name for one in guests.view(guest.uuid).instance.block_devices] == ["disk0"]
    assert not list((node.directory / "state/disks" / guest.uuid).glob("disk1*"))


def test_what_a_guest_writes_to_a_volume_stays_in_it(node: Node, guests: Guests) -> None:
    first, second = a_guest(guests), a_guest(guests)
    device = a_file_volume(node)
    attach(guests, first.uuid, device)
    run_inside(guests, first.uuid, "echo kept | dd of=/dev/vdb bs=512 seek=9 conv=sync,fsync")
    refused = guests.fail(guests.client.attach_volume(second.uuid, device))
    assert refused.fault is not None and refused.fault.type == "DiskInUse"
    assert f"{node.host}, instance {first.uuid}" in refused.fault.message
    guests.finish(guests.client.detach_volume(first.uuid, str(device.volume_id)))
    attach(guests, second.uuid, device)
    assert "kept" in run_inside(guests, second.uuid, "dd if=/dev/vdb bs=512 skip=9 count=1")
    guests.finish(guests.client.terminate_instance(second.uuid))
    path = path_of(device)
    assert "kept" in run("qemu-io", "-r", "-f", "qcow2", "-c", "read -v 4608 512", path)
    assert [entry.name for entry in path.parent.glob(f"{path.stem}*")] == [path.name]


@pytest.mark.parametrize("cache_mode", ["none", "writethrough", "directsync", "unsafe"])
def test_each_way_to_cache_blocks_works(node: Node, guests: Guests, cache_mode: CacheMode) -> None:
    guest = a_guest(guests)
    device = msgspec.structs.replace(a_file_volume(node, image_format="raw"), cache_mode=cache_mode)
    attach(guests, guest.uuid, device)
    run_inside(guests, guest.uuid, "echo kept | dd of=/dev/vdb bs=512 seek=9 conv=sync,fsync")
    guests.finish(guests.client.detach_volume(guest.uuid, str(device.volume_id)))
    assert path_of(device).read_bytes()[9 * 512 :].startswith(b"kept")


def test_a_read_only_volume_cannot_be_written(node: Node, guests: Guests) -> None:
    guest = a_guest(guests)
    device = a_file_volume(node, image_format="raw", access_mode="ro")
    attach(guests, guest.uuid, device)
    assert run_inside(guests, guest.uuid, "cat /sys/block/vdb/ro") == "1"


def test_disks_of_a_stopped_instance_are_there_when_it_starts(node: Node, guests: Guests) -> None:
    guest = a_guest(guests)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    device = a_blank_disk()
    attach(guests, guest.uuid, device)
    guests.finish(guests.client.extend_volume(guest.uuid, str(device.volume_id), 2))
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert sectors(guests, guest.uuid, "vdb") == 2 * 1024 * MIB // 512
    assert guests.view(guest.uuid).vm_state is VmState.ACTIVE


def test_a_disk_grows_under_the_guest(guests: Guests) -> None:
    guest = a_guest(guests)
    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 3))
    until(lambda: sectors(guests, guest.uuid, "vda") == 3 * 1024 * MIB // 512)
    assert guests.view(guest.uuid).instance.block_devices[0].size_gb == 3
    smaller = guests.fail(guests.client.extend_volume(guest.uuid, "disk0", 1))
    assert smaller.fault is not None and smaller.fault.message.startswith("size_gb: ")
    assert guests.view(guest.uuid).vm_state is VmState.ACTIVE


def test_a_disk_is_limited_and_let_go_again(guests: Guests) -> None:
    guest = a_guest(guests)
    read = "dd if=/dev/vda of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null"
    guests.finish(guests.client.set_disk_qos(guest.uuid, "disk0", DiskQos(total_bytes_sec=MIB)))
    slow = float(run_inside(guests, guest.uuid, _timed(read)))
    guests.finish(guests.client.set_disk_qos(guest.uuid, "disk0", None))
    fast = float(run_inside(guests, guest.uuid, _timed(read)))
    assert slow > 2 > fast


def _timed(command: str) -> str:
    """Seconds that it takes by the guest's own clock."""
    now = "$(cut -d ' ' -f 1 /proc/uptime)"
    return f"from={now}; {command}; until={now}; echo \"$until $from\" | awk '{{print $1 - $2}}'"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"volume_id": None}, "block_device.volume_id"),
        ({"size_gb": None}, "block_device.size_gb"),
        ({"device_name": "disk0"}, "block_device.device_name"),
    ],
)
def test_a_disk_that_cannot_be_is_refused_at_once(guests: Guests, changes: dict[str, str | None], field: str) -> None:
    guest = a_guest(guests)
    description = {"source_type": "blank", "size_gb": 1, "volume_id": str(uuid.uuid4())} | changes
    with pytest.raises(InvalidMessage, match=field):
        guests.client.attach_volume(guest.uuid, BlockDevice(**description))
    with pytest.raises(InvalidMessage, match="disk: the instance has no such disk"):
        guests.client.extend_volume(guest.uuid, "disk7", 1)


def test_a_volume_from_elsewhere_is_refused(guests: Guests, directory: Path) -> None:
    guest = a_guest(guests)
    volume = FileVolume(path="/etc/passwd", format="raw")
    device = BlockDevice(source_type="volume", volume_id=guest.uuid, connection_info=FileConnection(data=volume))
    with pytest.raises(InvalidMessage, match=r"block_device\.connection_info\.data\.path: volumes may be in"):
        guests.client.attach_volume(guest.uuid, device)


def test_an_encrypted_disk_shows_its_content_to_its_guest_only(node: Node, guests: Guests) -> None:
    passphrase = f"secret-{uuid.uuid4()}"
    encryption = Encryption(secret_uuid=node.keep_secret(passphrase))
    root = BlockDevice(source_type="blank", size_gb=1, encryption=encryption)
    guest = guests.boot(an_order(config_drive=False, block_devices=[root]))
    volume = msgspec.structs.replace(a_blank_disk(), encryption=encryption)
    attach(guests, guest.uuid, volume)
    for disk in ("vda", "vdb"):
        run_inside(guests, guest.uuid, f"echo legible | dd of=/dev/{disk} bs=512 conv=sync,fsync")
    assert passphrase not in run("ps", "-e", "-ww", "-o", "args=")
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    for path in (node.directory / "state/disks" / guest.uuid).glob("*.qcow2"):
        assert b"legible" not in path.read_bytes()
    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 2))
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    for disk in ("vda", "vdb"):
        assert "legible" in run_inside(guests, guest.uuid, f"dd if=/dev/{disk} bs=512 count=1")
    assert run_inside(guests, guest.uuid, "cat /sys/block/vda/size") == str(4 * MIB)
    kept = (node.directory / "state/journal.sqlite").read_bytes() + node.log.read_bytes()
    assert passphrase.encode() not in kept


def test_a_secret_that_the_node_does_not_have_is_named(guests: Guests) -> None:
    guest = a_guest(guests)
    device = msgspec.structs.replace(a_blank_disk(), encryption=Encryption(secret_uuid=guest.uuid))
    with pytest.raises(InvalidMessage, match=r"block_device\.encryption\.secret_uuid: there is no "):
        guests.client.attach_volume(guest.uuid, device)


@pytest.fixture
def small(node: Node) -> Iterator[Path]:
    """A file system that is soon full, where volumes may be."""
    place = node.volumes / "small"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", place)
    yield place
    run("umount", "--lazy", place)
    place.rmdir()


@pytest.mark.parametrize("watched", [True, False])
def test_a_full_disk_holds_its_guest_up_until_there_is_room(
    node: Node, guests: Guests, small: Path, watched: bool
) -> None:
    guest = a_guest(guests)
    path = small / "full.raw"
    run("truncate", "--size", "64M", path)
    volume = FileVolume(path=str(path), format="raw")
    device = BlockDevice(source_type="volume", volume_id=str(uuid.uuid4()), connection_info=FileConnection(data=volume))
    attach(guests, guest.uuid, device)
    run_inside(
        guests, guest.uuid, "mkdir -p /tmp; head -c 25165824 /dev/urandom > /tmp/data; md5sum </tmp/data >/tmp/sum"
    )
    if not watched:
        node.kill()
    _type_into(node, guest.uuid, "dd if=/tmp/data of=/dev/vdb bs=1M conv=fsync 2>/dev/null; echo don''e")
    until(lambda: path.stat().st_blocks * 512 >= 8 * MIB)
    if not watched:
        node.start()
    until(lambda: guests.view(guest.uuid).vm_state is VmState.PAUSED)
    fault = guests.view(guest.uuid).fault
    assert fault is not None and fault.type in ("InsufficientResources", "StorageError")
    run("mount", "-o", "remount,size=80M", small)
    guests.finish(guests.client.resume_instance(guest.uuid))
    guests.await_console(guest.uuid, "\ndone")
    assert guests.view(guest.uuid).fault is None
    written = run_inside(guests, guest.uuid, "cat /tmp/sum").split()[0]
    with path.open("rb") as file:
        assert hashlib.md5(file.read(24 * MIB)).hexdigest() == written
    guests.finish(guests.client.detach_volume(guest.uuid, str(device.volume_id)))


def _type_into(node: Node, instance_uuid: str, command: str) -> None:
    """On the guest's console, without the agent; returns when it has been echoed."""
    with socket.socket(socket.AF_UNIX) as console:
        console.settimeout(20)
        console.connect(str(node.directory / "run/guests" / instance_uuid / "console.sock"))
        console.sendall(f"\n{command}\n".encode())
        echo = b""
        while not echo.rstrip().endswith(command[-10:].encode()):
            echo += console.recv(4096)
