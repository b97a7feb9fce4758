"""Snapshots, backups and restore of disks in local files, on guests that run and write meanwhile."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import CopyNotFound, DiskInUse, InvalidMessage
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume, Image
from compute_agent.instance.copies import Backup
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from sandbox.commands import run
from sandbox.node import Node
from tests.functional.contents import is_same, needs_recovery, word_at
from tests.functional.guest_agent import start_stand_in
from tests.functional.guests import Guests, an_order, source, until
from tests.functional.shell import attach, await_inside, run_inside

MIB = 1024**2
FAR = 700 * MIB
"""Bytes from the disk's start: behind all that its image has."""


@pytest.fixture(scope="module")
def image(node: Node) -> Image:
    """A disk's content that takes a moment to copy."""
    raw, path = node.image_source / "content.raw", node.image_source / "content.qcow2"
    raw.write_bytes(os.urandom(128 * MIB) * 2)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    raw.unlink()
    file = source(path)
    return Image(url=file.url, checksum=file.checksum, disk_format="qcow2")


@pytest.fixture
def guest(guests: Guests, image: Image) -> Instance:
    """Running, with a disk of 1 GiB that begins with an image's content."""
    disk = BlockDevice(source_type="image", image=image, size_gb=1)
    return guests.boot(an_order(config_drive=False, block_devices=[disk]))


@pytest.fixture(autouse=True)
def no_copies(node: Node) -> Iterator[None]:
    """Each test leaves the directories as it found them; those of copies that were never finished too."""
    yield
    for backup in reversed(node.client.list_backups()):
        node.client.delete_backup(backup.backup_id)
    for path in (node.directory / "snapshots").glob("*.json"):
        node.client.delete_snapshot(path.stem)
    assert [*(node.directory / "backups").iterdir(), *(node.directory / "snapshots").iterdir()] == []


def write(guests: Guests, guest: Instance, word: str, at: int, disk: str = "vda") -> None:
    """Durably."""
    run_inside(guests, guest.uuid, f"echo {word} | dd of=/dev/{disk} bs=512 seek={at // 512} conv=sync,fsync,notrunc")


def back_up(guests: Guests, guest: Instance, *disks: str, parent: str | None = None) -> Backup:
    backup_id = str(uuid.uuid4())
    guests.finish(guests.client.backup_instance(guest.uuid, backup_id, disks=disks or None, parent=parent))
    (found,) = (one for one in guests.client.list_backups(guest.uuid) if one.backup_id == backup_id)
    return found


def file_of(node: Node, backup: Backup, disk: str = "disk0") -> Path:
    return node.directory / "backups" / backup.backup_id / f"{disk}.qcow2"


def disk_of(node: Node, guest: Instance) -> Path:
    return node.directory / "state/disks" / guest.uuid / "disk0.qcow2"


def test_a_snapshot_is_an_image_of_one_moment(node: Node, guests: Guests, guest: Instance) -> None:
    """The guest counts at both ends of its disk, one after the other: a copy of one moment has the same numbers."""
    both = f"for at in 0 {FAR // 512}; do echo $n | dd of=/dev/vda bs=512 seek=$at conv=sync,fsync,notrunc; done"
    run_inside(guests, guest.uuid, f"(while n=$((n + 1)); do {both}; done >/dev/null 2>&1) & true")
    await_inside(guests, guest.uuid, f"dd if=/dev/vda bs=512 skip={FAR // 512} count=1 2>/dev/null | grep -q '[1-9]'")
    image_id = str(uuid.uuid4())
    guests.finish(guests.client.snapshot_instance(guest.uuid, image_id))
    snapshot = guests.client.get_snapshot(image_id)
    path = Path(snapshot.url.removeprefix("file://"))
    first, last = int(word_at(path, 0)), int(word_at(path, FAR))
    assert last <= first <= last + 1
    assert (snapshot.checksum, snapshot.size) == (source(path).checksum, path.stat().st_size)
    assert (snapshot.virtual_size, snapshot.frozen) == (1024 * MIB, False)
    now = int(run_inside(guests, guest.uuid, "dd if=/dev/vda bs=512 count=1 2>/dev/null | head -n 1"))
    assert now > first, "it has gone on"
    assert "backing file" not in run("qemu-img", "info", path)
    refused = guests.fail(guests.client.snapshot_instance(guest.uuid, image_id))
    assert refused.fault is not None and "there is such a snapshot already" in refused.fault.message


def test_a_snapshot_of_a_stopped_instance_boots(guests: Guests, guest: Instance) -> None:
    write(guests, guest, "kept", FAR)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    image_id = str(uuid.uuid4())
    guests.finish(guests.client.snapshot_instance(guest.uuid, image_id))
    made = guests.client.get_snapshot(image_id)
    assert made.frozen, "nobody had anything mounted"
    disk = BlockDevice(
        source_type="image", image=Image(url=made.url, checksum=made.checksum, disk_format="qcow2"), size_gb=1
    )
    clone = guests.boot(an_order(config_drive=False, block_devices=[disk]))
    assert "kept" in run_inside(guests, clone.uuid, f"dd if=/dev/vda bs=512 skip={FAR // 512} count=1")
    guests.client.delete_snapshot(image_id)
    with pytest.raises(CopyNotFound):
        guests.client.get_snapshot(image_id)


def test_incremental_backups_have_what_was_written_since(node: Node, guests: Guests, guest: Instance) -> None:
    write(guests, guest, "first", FAR)
    full = back_up(guests, guest)
    write(guests, guest, "second", FAR)
    run_inside(guests, guest.uuid, f"blkdiscard -o 0 -l {8 * MIB} /dev/vda; sync")
    middle = back_up(guests, guest, parent=full.backup_id)
    write(guests, guest, "third", FAR)
    last = back_up(guests, guest, parent=middle.backup_id)
    assert [word_at(file_of(node, one), FAR) for one in (full, middle, last)] == ["first", "second", "third"]
    assert is_same(file_of(node, last), disk_of(node, guest))
    assert full.disks[0].size > 128 * MIB > 10 * last.disks[0].size
    assert [one.parent for one in (full, middle, last)] == [None, full.backup_id, middle.backup_id]
    with pytest.raises(DiskInUse, match=last.backup_id):
        guests.client.delete_backup(middle.backup_id)


def test_what_was_written_is_known_after_a_stop_and_a_start(node: Node, guests: Guests, guest: Instance) -> None:
    full = back_up(guests, guest)
    write(guests, guest, "before", FAR)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=30))
    refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), parent=full.backup_id))
    assert refused.fault is not None and "an incremental backup needs it to be active" in refused.fault.message
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    write(guests, guest, "after", FAR + MIB)
    last = back_up(guests, guest, parent=full.backup_id)
    assert [word_at(file_of(node, last), at) for at in (FAR, FAR + MIB)] == ["before", "after"]
    refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), parent=full.backup_id))
    assert refused.fault is not None and refused.fault.message.startswith("parent: disk0: it is not known")


def test_a_disk_becomes_what_it_was(node: Node, guests: Guests, guest: Instance) -> None:
    """Also where the image that it stands on has something else."""
    write(guests, guest, "first", FAR)
    run_inside(guests, guest.uuid, f"blkdiscard -o 0 -l {8 * MIB} /dev/vda; sync")
    full = back_up(guests, guest)
    write(guests, guest, "second", FAR)
    second = back_up(guests, guest, parent=full.backup_id)
    write(guests, guest, "third", 0)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=30))
    for backup, word in ((full, "first"), (second, "second")):
        guests.finish(guests.client.restore_instance(guest.uuid, backup.backup_id))
        assert word_at(disk_of(node, guest), FAR) == word
        assert is_same(disk_of(node, guest), file_of(node, backup))
    assert [path.name for path in disk_of(node, guest).parent.glob("disk*")] == ["disk0.qcow2"]
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    read = f"dd if=/dev/vda bs=512 skip={FAR // 512} count=1 2>/dev/null | head -n 1; hexdump -n 4096 /dev/vda"
    assert run_inside(guests, guest.uuid, read).split()[:3] == ["second", "0000000", "0000"]


@pytest.mark.parametrize("moment", [0.05, 0.3, 0.6])
def test_an_agent_that_dies_meanwhile(node: Node, guests: Guests, guest: Instance, moment: float) -> None:
    full = back_up(guests, guest)
    write(guests, guest, "kept", FAR)
    backup_id = str(uuid.uuid4())
    accepted = guests.client.backup_instance(guest.uuid, backup_id)
    with pytest.raises(AssertionError):
        until(lambda: False, moment)  # any moment will do; the unit tests take them all
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    (backup,) = (one for one in guests.client.list_backups() if one.backup_id == backup_id)
    assert word_at(file_of(node, backup), FAR) == "kept"
    refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), parent=full.backup_id))
    assert refused.fault is not None and refused.fault.message.startswith("parent: ")
    node.kill()
    jobs, nodes, descriptors = asked(node, guest, "query-jobs", "query-named-block-nodes", "query-fdsets")
    node.start()
    assert jobs == []
    marks = [mark["name"] for one in nodes for mark in one.get("dirty-bitmaps", [])]
    assert set(marks) == {backup_id}
    assert "copy" not in json.dumps([nodes, descriptors])


def asked(node: Node, guest: Instance, *commands: str) -> list[list[dict[str, object]]]:
    """What the guest's monitor says while no agent has it."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(str(node.directory / "run/guests" / guest.uuid / "monitor.sock"))
        with monitor.makefile("rw") as lines:
            for command in ("qmp_capabilities", *commands):
                lines.write(json.dumps({"execute": command, "id": command}) + "\n")
            lines.flush()
            answers: dict[str, list[dict[str, object]]] = {}
            while len(answers) <= len(commands):
                message = json.loads(lines.readline())
                if "id" in message:
                    answers[message["id"]] = message["return"]
    return [answers[command] for command in commands]


def with_guest_agent(node: Node, guests: Guests, guest: Instance, *, answers_after: float = 0) -> None:
    """A file system on disk1, mounted, and something that freezes it."""
    volume_id = str(uuid.uuid4())
    path = node.volumes / f"{volume_id}.raw"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    run("mkfs.ext4", "-q", path)
    volume = FileVolume(path=str(path), format="raw")
    device = BlockDevice(source_type="volume", volume_id=volume_id, connection_info=FileConnection(data=volume))
    attach(guests, guest.uuid, device)
    run_inside(guests, guest.uuid, "mkdir /mnt; mount -t ext4 /dev/vdb /mnt; echo kept >/mnt/file")
    run_inside(guests, guest.uuid, start_stand_in(answers_after))


def is_dirty(node: Node, backup: Backup) -> bool:
    """The file system was in use when the copy was made."""
    raw = node.directory / "copy.raw"
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", file_of(node, backup, "disk1"), raw)
    return needs_recovery(raw)


def test_a_guest_agent_freezes_the_file_systems(node: Node, guests: Guests, guest: Instance) -> None:
    with_guest_agent(node, guests, guest)
    backup = back_up(guests, guest)
    assert (backup.frozen, [disk.name for disk in backup.disks]) == (True, ["disk0", "disk1"])
    assert not is_dirty(node, backup)
    run_inside(guests, guest.uuid, "echo more >/mnt/file; sync; kill -9 $(cat /tmp/agent.pid)")
    plain = back_up(guests, guest, "disk1")
    assert (plain.frozen, is_dirty(node, plain)) == (False, True)


def test_a_guest_thaws_though_the_agent_was_killed(node: Node, guests: Guests, guest: Instance) -> None:
    with_guest_agent(node, guests, guest, answers_after=2)
    accepted = guests.client.backup_instance(guest.uuid, str(uuid.uuid4()))
    guests.await_console(guest.uuid, "GUEST FROZEN")
    node.kill()
    console = node.directory / "run/guests" / guest.uuid / "console.sock"
    with socket.socket(socket.AF_UNIX) as terminal:
        terminal.settimeout(30)
        terminal.connect(str(console))
        heard = b""
        while b"GUEST THAWED" not in heard:
            heard += terminal.recv(4096)
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    run_inside(guests, guest.uuid, "echo more >/mnt/file; sync")
    (backup,) = guests.client.list_backups(guest.uuid)
    assert (backup.frozen, is_dirty(node, backup)) == (True, False)


def test_a_target_that_is_full_does_not_hold_up_the_guest(node: Node, guests: Guests, guest: Instance) -> None:
    """Nor is it forgotten what was written since the last backup."""
    place = node.directory / "backups"
    run("mount", "-t", "tmpfs", "-o", "size=600m", "backups", place)
    try:
        full = back_up(guests, guest)
        run_inside(guests, guest.uuid, "dd if=/dev/zero of=/dev/vda bs=1M count=400 oflag=direct", seconds=120)
        random = "seek=$((RANDOM % 6000)) conv=fsync,notrunc"
        writing = f"while :; do dd if=/dev/zero of=/dev/vda bs=64k count=1 {random}; echo x >>/tmp/x; done"
        run_inside(guests, guest.uuid, f"({writing}) >/dev/null 2>&1 & true")
        await_inside(guests, guest.uuid, "[ -s /tmp/x ]")
        failed = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), parent=full.backup_id))
        assert failed.fault is not None and "No space left" in failed.fault.message
        assert guests.view(guest.uuid).vm_state is VmState.ACTIVE
        before = run_inside(guests, guest.uuid, "wc -l </tmp/x")
        await_inside(guests, guest.uuid, f"[ $(wc -l </tmp/x) -gt {before} ]")
        assert [entry.name for entry in place.iterdir()] == [full.backup_id]
        run("mount", "-o", "remount,size=2g", place)
        run_inside(guests, guest.uuid, "kill %1; sync")
        write(guests, guest, "last", FAR)
        last = back_up(guests, guest, parent=full.backup_id)
        assert word_at(file_of(node, last), FAR) == "last"
        for backup in (last, full):
            guests.client.delete_backup(backup.backup_id)
    finally:
        run("umount", place)


def test_what_cannot_be_copied_is_refused_by_name(guests: Guests, guest: Instance) -> None:
    for arguments, field in (({"disks": ["disk7"]}, "disks"), ({"parent": str(uuid.uuid4())}, "parent")):
        refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), **arguments))
        assert refused.fault is not None
        assert (refused.fault.type, refused.fault.message.split(":")[0]) == (InvalidMessage.__name__, field)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    refused = guests.fail(guests.client.restore_instance(guest.uuid, str(uuid.uuid4())))
    assert refused.fault is not None and refused.fault.type == CopyNotFound.__name__
