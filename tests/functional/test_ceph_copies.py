"""Snapshots, backups and restore of disks in Ceph, and backups to other places, on guests that run and that do not."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.copies import Backup
from compute_agent.instance.model import Instance
from compute_agent.instance.view import OperationState
from compute_agent.storage.server.launch import find_servers
from sandbox import audit
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.contents import is_same, word_at
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import run_inside

MIB = 1024**2
FAR = 700 * MIB
"""Bytes from a disk's start."""


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    with Ceph(directory / "cc") as ceph:
        yield ceph


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[Node]:
    """What it has left in the cluster, or told of the key, fails the module."""
    with Node(directory / "cn", broker.transport_url, switch.connection, host="ceph-copies", ceph=ceph) as node:
        yield node
        Guests(node).terminate_all()
        for backup in reversed(node.client.list_backups()):
            node.client.delete_backup(backup.backup_id)
        assert [*(node.directory / "backups").iterdir(), *(node.directory / "snapshots").iterdir()] == []
        until(lambda: ceph.rbd("ls", ceph.pool) == "", 60)
        assert audit.leftovers(node, switch) == []
        assert find_servers(node.directory / "run/servers") == {}
        assert ceph.key not in node.log.read_text() + node.config_file.read_text()
        assert ceph.key.encode() not in (node.directory / "state/journal.sqlite").read_bytes()


IN_CEPH = BlockDevice(source_type="blank", backend="rbd", size_gb=1)
IN_A_FILE = BlockDevice(source_type="blank", size_gb=1)


@pytest.fixture
def guest(guests: Guests) -> Instance:
    """disk0 is in Ceph, disk1 in a local file."""
    return guests.boot(an_order(config_drive=False, block_devices=[IN_CEPH, IN_A_FILE]))


def write(guests: Guests, guest: Instance, word: str, disk: str = "vda", at: int = FAR) -> None:
    """Durably."""
    run_inside(guests, guest.uuid, f"echo {word} | dd of=/dev/{disk} bs=512 seek={at // 512} conv=sync,fsync,notrunc")


def fill(guests: Guests, guest: Instance, disk: str = "vda", mib: int = 48) -> None:
    run_inside(guests, guest.uuid, f"dd if=/dev/urandom of=/dev/{disk} bs=1M count={mib} conv=fsync,notrunc")


def back_up(guests: Guests, guest: Instance, **arguments: str) -> Backup:
    backup_id = str(uuid.uuid4())
    guests.finish(guests.client.backup_instance(guest.uuid, backup_id, **arguments))
    (found,) = (one for one in guests.client.list_backups(guest.uuid) if one.backup_id == backup_id)
    return found


def file_of(node: Node, backup: Backup, disk: str = "disk0") -> Path:
    return node.directory / "backups" / backup.backup_id / f"{disk}.qcow2"


def exported(ceph: Ceph, node: Node, image: str) -> Path:
    """An image's content, read by somebody else."""
    path = node.directory / "exported.raw"
    path.unlink(missing_ok=True)
    ceph.rbd("export", "--no-progress", f"{ceph.pool}/{image}", str(path))
    return path


def holds(backup: Path, raw: Path) -> bool:
    return is_same(raw, backup, ("raw", "qcow2"))


def disk_in_ceph(guest: Instance) -> str:
    return f"{guest.uuid}_disk0"


def stop(guests: Guests, guest: Instance) -> None:
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))


def test_backups_of_a_running_guest_with_disks_of_both_kinds(
    ceph: Ceph, node: Node, guests: Guests, guest: Instance
) -> None:
    for disk in ("vda", "vdb"):
        fill(guests, guest, disk)
    first = back_up(guests, guest)
    assert holds(file_of(node, first), exported(ceph, node, disk_in_ceph(guest)))
    both = f"for d in vda vdb; do echo $n | dd of=/dev/$d bs=512 seek={FAR // 512} conv=sync,fsync,notrunc; done"
    run_inside(guests, guest.uuid, f"(while n=$((n + 1)); do {both}; done >/dev/null 2>&1) & sleep 1")
    second = back_up(guests, guest, parent=first.backup_id)
    run_inside(guests, guest.uuid, "kill %1; sync")
    counted = [int(word_at(file_of(node, second, disk), FAR)) for disk in ("disk0", "disk1")]
    assert counted[1] <= counted[0] <= counted[1] + 1, "one moment"
    third = back_up(guests, guest, parent=second.backup_id)
    assert holds(file_of(node, third), exported(ceph, node, disk_in_ceph(guest)))
    assert first.disks[0].size > 48 * MIB > 10 * third.disks[0].size
    write(guests, guest, "before the end")
    stop(guests, guest)
    guests.finish(guests.client.start_instance(guest.uuid))
    refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), parent=third.backup_id))
    assert refused.fault is not None and refused.fault.message.startswith("parent: disk0: it is not known")


def test_what_is_in_ceph_is_copied_and_put_back_while_nothing_runs(
    ceph: Ceph, node: Node, guests: Guests, guest: Instance
) -> None:
    fill(guests, guest)
    write(guests, guest, "first")
    first = back_up(guests, guest)
    write(guests, guest, "second")
    write(guests, guest, "second", "vdb")
    stop(guests, guest)
    second = back_up(guests, guest)
    assert second.frozen
    assert holds(file_of(node, second), exported(ceph, node, disk_in_ceph(guest)))
    image_id = str(uuid.uuid4())
    guests.finish(guests.client.snapshot_instance(guest.uuid, image_id))
    snapshot = Path(guests.client.get_snapshot(image_id).url.removeprefix("file://"))
    assert is_same(snapshot, file_of(node, second))
    guests.client.delete_snapshot(image_id)
    for backup in (first, second):
        guests.finish(guests.client.restore_instance(guest.uuid, backup.backup_id))
        assert holds(file_of(node, backup), exported(ceph, node, disk_in_ceph(guest)))
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)])
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert "second" in run_inside(guests, guest.uuid, f"dd if=/dev/vda bs=512 skip={FAR // 512} count=1")


@pytest.mark.parametrize("moment", [0.1, 0.4, 0.8, 1.2])
def test_an_agent_that_dies_while_it_restores(ceph: Ceph, node: Node, guests: Guests, moment: float) -> None:
    guest = guests.boot(an_order(config_drive=False, block_devices=[IN_CEPH]))
    fill(guests, guest)
    backup = back_up(guests, guest)
    write(guests, guest, "later")
    stop(guests, guest)
    accepted = guests.client.restore_instance(guest.uuid, backup.backup_id)
    with pytest.raises(AssertionError):
        until(lambda: False, moment)  # any will do
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    assert holds(file_of(node, backup), exported(ceph, node, disk_in_ceph(guest)))
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)], 60)
