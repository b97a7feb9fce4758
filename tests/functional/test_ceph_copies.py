"""Snapshots, backups and restore of disks in Ceph, and backups to other places, on guests that run and that do not."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Unpack, cast

import pytest

from compute_agent.errors import CopyNotFound, DiskInUse
from compute_agent.instance.block_device import BlockDevice, Encryption, FileConnection, FileVolume, Image
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from compute_agent.rpc.copy_verbs import BackupChoices
from compute_agent.storage.rbd.clusters import Clusters
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.notes import Note, write_note
from compute_agent.storage.rbd.purge import PurgeQueue
from compute_agent.storage.rbd.restorations import Restorations
from compute_agent.storage.rbd.spare_images import SpareImages
from compute_agent.storage.server.launch import find_servers
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.source import Place
from sandbox import audit
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.contents import is_same, needs_recovery, word_at
from tests.functional.guest_agent import start_stand_in
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import attach, await_inside, run_inside

MIB = 1024**2
RAW = ("raw", "raw")
FAR = 700 * MIB
"""Bytes from a disk's start."""
CLEARED_WITHIN = 90.0
"""Seconds: an image that a dead client has open may be tried again after 10, 30 and 70."""


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[Node]:
    """What it has left in the cluster, or told of the key, fails the module."""
    with Node(directory / "cn", broker.transport_url, switch.connection, host="ceph-copies", ceph=ceph) as node:
        yield node
        Guests(node).terminate_all()
        for backup in reversed(node.client.list_backups()):
            node.client.delete_backup(backup.backup_id)
        assert [*(node.directory / "backups").iterdir(), *(node.directory / "snapshots").iterdir()] == []
        until(lambda: ceph.rbd("ls", ceph.pool) == "", CLEARED_WITHIN)
        assert audit.leftovers(node, switch) == []
        assert find_servers(node.directory / "run/servers") == {}
        assert ceph.key not in node.log.read_text() + node.config_file.read_text()
        assert ceph.key.encode() not in (node.directory / "state/journal.sqlite").read_bytes()


IN_CEPH = BlockDevice(source_type="blank", backend="rbd", size_gb=1)
IN_A_FILE = BlockDevice(source_type="blank", size_gb=1)


@pytest.fixture(autouse=True)
def key_in_sight(ceph: Ceph) -> Iterator[None]:
    """While a test runs, the key is on no command line and in no environment."""
    seen: list[Path] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for path in [path / name for path in Path("/proc").glob("[0-9]*") for name in ("cmdline", "environ")]:
                with suppress(OSError):  # it has ended
                    if ceph.key.encode() in path.read_bytes():
                        seen.append(path)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    over.set()
    watcher.join()
    assert seen == []


@pytest.fixture
def guest(guests: Guests) -> Instance:
    """disk0 is in Ceph, disk1 in a local file."""
    return guests.boot(an_order(config_drive=False, block_devices=[IN_CEPH, IN_A_FILE]))


def write(guests: Guests, guest: Instance, word: str, disk: str = "vda", at: int = FAR) -> None:
    """Durably."""
    run_inside(guests, guest.uuid, f"echo {word} | dd of=/dev/{disk} bs=512 seek={at // 512} conv=sync,fsync,notrunc")


def fill(guests: Guests, guest: Instance, disk: str = "vda", mib: int = 24) -> None:
    run_inside(guests, guest.uuid, f"dd if=/dev/urandom of=/dev/{disk} bs=1M count={mib} conv=fsync,notrunc")


def back_up(guests: Guests, guest: Instance, **choices: Unpack[BackupChoices]) -> Backup:
    backup_id = str(uuid.uuid4())
    guests.finish(guests.client.backup_instance(guest.uuid, backup_id, **choices))
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


def disk_in_file(node: Node, guest: Instance) -> Path:
    return node.directory / "state/disks" / guest.uuid / "disk1.qcow2"


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
    run_inside(guests, guest.uuid, f"(while n=$((n + 1)); do {both}; done >/dev/null 2>&1) & true")
    await_inside(guests, guest.uuid, f"dd if=/dev/vdb bs=512 skip={FAR // 512} count=1 2>/dev/null | grep -q '[1-9]'")
    second = back_up(guests, guest, parent=first.backup_id)
    run_inside(guests, guest.uuid, "kill %1; sync")
    counted = [int(word_at(file_of(node, second, disk), FAR)) for disk in ("disk0", "disk1")]
    assert counted[1] <= counted[0] <= counted[1] + 1, "one moment"
    third = back_up(guests, guest, parent=second.backup_id)
    assert holds(file_of(node, third), exported(ceph, node, disk_in_ceph(guest)))
    assert first.disks[0].size > 24 * MIB > 10 * third.disks[0].size
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


def test_an_agent_that_dies_while_it_restores(ceph: Ceph, node: Node, guests: Guests) -> None:
    guest = guests.boot(an_order(config_drive=False, block_devices=[IN_CEPH]))
    fill(guests, guest)
    backup = back_up(guests, guest)
    write(guests, guest, "later")
    stop(guests, guest)
    accepted = guests.client.restore_instance(guest.uuid, backup.backup_id)
    with pytest.raises(AssertionError):
        until(lambda: False, 0.5)  # any will do
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    assert holds(file_of(node, backup), exported(ceph, node, disk_in_ceph(guest)))
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)], CLEARED_WITHIN)


def take_snapshot(guests: Guests, guest: Instance) -> Snapshot:
    image_id = str(uuid.uuid4())
    guests.finish(guests.client.snapshot_instance(guest.uuid, image_id, backend="rbd"))
    return guests.client.get_snapshot(image_id)


def image_name(snapshot: Snapshot) -> str:
    return snapshot.url.split("/")[4]


def test_a_snapshot_stays_in_ceph_and_is_booted_from_at_once(
    ceph: Ceph, node: Node, guests: Guests, guest: Instance
) -> None:
    fill(guests, guest)
    write(guests, guest, "kept")
    snapshot = take_snapshot(guests, guest)
    before = exported(ceph, node, image_name(snapshot)).rename(node.directory / "snapshot.raw")
    assert is_same(before, exported(ceph, node, disk_in_ceph(guest)), RAW)
    write(guests, guest, "changed")
    assert (snapshot.disk_format, snapshot.checksum, snapshot.frozen) == ("raw", "", False)
    assert "parent" not in ceph.rbd("info", f"{ceph.pool}/{image_name(snapshot)}")
    assert ceph.rbd("snap", "ls", f"{ceph.pool}/{disk_in_ceph(guest)}") == ""
    disk = BlockDevice(source_type="image", image=Image(url=snapshot.url, disk_format="raw"))
    clone = guests.boot(an_order(config_drive=False, block_devices=[disk]))
    assert "kept" in run_inside(guests, clone.uuid, f"dd if=/dev/vda bs=512 skip={FAR // 512} count=1")
    with pytest.raises(DiskInUse, match=f"{clone.uuid}_disk0"):
        guests.client.delete_snapshot(snapshot.image_id)
    guests.finish(guests.client.terminate_instance(clone.uuid))
    until(lambda: f"{clone.uuid}_disk0" not in ceph.rbd("ls", ceph.pool))
    guests.client.delete_snapshot(snapshot.image_id)
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)], CLEARED_WITHIN)
    with pytest.raises(CopyNotFound):
        guests.client.get_snapshot(snapshot.image_id)


def test_a_guest_agent_freezes_the_file_system_for_a_snapshot_in_ceph(
    ceph: Ceph, node: Node, guests: Guests, guest: Instance
) -> None:
    path = node.volumes / "ext4.raw"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    run("mkfs.ext4", "-q", path)
    volume = FileConnection(data=FileVolume(path=str(path), format="raw"))
    device = BlockDevice(source_type="volume", volume_id=str(uuid.uuid4()), connection_info=volume)
    attach(guests, guest.uuid, device)
    run_inside(guests, guest.uuid, "dd if=/dev/vdc of=/dev/vda bs=1M conv=fsync,notrunc")
    run_inside(guests, guest.uuid, "mkdir /mnt; mount -t ext4 /dev/vda /mnt; echo kept >/mnt/file")
    run_inside(guests, guest.uuid, start_stand_in())
    snapshot = take_snapshot(guests, guest)
    assert (snapshot.frozen, needs_recovery(exported(ceph, node, image_name(snapshot)))) == (True, False)
    run_inside(guests, guest.uuid, "echo more >/mnt/file; sync")
    assert needs_recovery(exported(ceph, node, disk_in_ceph(guest)))
    guests.client.delete_snapshot(snapshot.image_id)


def test_an_agent_that_dies_while_it_takes_a_snapshot(ceph: Ceph, node: Node, guests: Guests, guest: Instance) -> None:
    fill(guests, guest)
    image_id = str(uuid.uuid4())
    accepted = guests.client.snapshot_instance(guest.uuid, image_id, backend="rbd")
    with pytest.raises(AssertionError):
        until(lambda: False, 0.2)  # any will do
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    snapshot = guests.client.get_snapshot(image_id)
    image = exported(ceph, node, image_name(snapshot)).rename(node.directory / "snapshot.raw")
    assert is_same(image, exported(ceph, node, disk_in_ceph(guest)), RAW)
    guests.client.delete_snapshot(image_id)
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)], CLEARED_WITHIN)


def test_a_backup_in_ceph_and_its_way_back(ceph: Ceph, node: Node, guests: Guests, guest: Instance) -> None:
    for disk in ("vda", "vdb"):
        fill(guests, guest, disk)
    first = back_up(guests, guest, target="rbd")
    before = exported(ceph, node, disk_in_ceph(guest)).rename(node.directory / "before.raw")
    for disk in ("vda", "vdb"):
        write(guests, guest, "second", disk)
    second = back_up(guests, guest, target="rbd", parent=first.backup_id)
    stop(guests, guest)
    assert second.target == "rbd"
    assert "parent" in ceph.rbd("info", f"{ceph.pool}/backup-{second.backup_id}-disk0")
    assert holds(disk_in_file(node, guest), exported(ceph, node, f"backup-{second.backup_id}-disk1"))
    image = exported(ceph, node, f"backup-{second.backup_id}-disk0").rename(node.directory / "backup.raw")
    assert is_same(image, exported(ceph, node, disk_in_ceph(guest)), RAW)
    with pytest.raises(DiskInUse, match=second.backup_id):
        guests.client.delete_backup(first.backup_id)
    guests.finish(guests.client.restore_instance(guest.uuid, first.backup_id))
    assert is_same(before, exported(ceph, node, disk_in_ceph(guest)), RAW)
    stopped = back_up(guests, guest, target="rbd")
    assert holds(disk_in_file(node, guest), exported(ceph, node, f"backup-{stopped.backup_id}-disk1"))
    for backup in (stopped, second, first):
        guests.client.delete_backup(backup.backup_id)
    until(lambda: ceph.rbd("ls", ceph.pool).split() == [disk_in_ceph(guest)], CLEARED_WITHIN)


def test_an_agent_that_dies_while_it_backs_up_to_ceph(ceph: Ceph, node: Node, guests: Guests, guest: Instance) -> None:
    fill(guests, guest)
    backup_id = str(uuid.uuid4())
    accepted = guests.client.backup_instance(guest.uuid, backup_id, disks=["disk0"], target="rbd")
    with pytest.raises(AssertionError):
        until(lambda: False, 0.2)  # any will do
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    image = exported(ceph, node, f"backup-{backup_id}-disk0").rename(node.directory / "backup.raw")
    assert is_same(image, exported(ceph, node, disk_in_ceph(guest)), RAW)
    guests.client.delete_backup(backup_id)


class NbdServer:
    """Exports web-disk0 and web-disk1 on the loopback, from qcow2 files. A context manager."""

    def __init__(self, directory: Path, bytes_per_second: int = 0) -> None:
        """0: as fast as it can."""
        self._limits = {"x-bps-total": bytes_per_second}
        self.files = [directory / f"nbd{number}.qcow2" for number in range(2)]
        with socket.socket() as candidate:
            candidate.bind(("127.0.0.1", 0))
            self.target = f"nbd://127.0.0.1:{candidate.getsockname()[1]}/web-"

    def __enter__(self) -> NbdServer:
        port = re.findall("[0-9]+", self.target)[-1]
        words = ["--object", json.dumps({"qom-type": "throttle-group", "id": "all"} | self._limits)]
        for number, path in enumerate(self.files):
            if not path.exists():
                run("qemu-img", "create", "-q", "-f", "qcow2", path, "1G")
            file = f"file.driver=qcow2,file.discard=unmap,file.file.driver=file,file.file.filename={path}"
            node = f"driver=throttle,throttle-group=all,node-name=n{number},discard=unmap,{file}"
            words += ["--blockdev", node, "--export"]
            words += [f"type=nbd,id=e{number},node-name=n{number},name=web-disk{number},writable=on"]
        server = ["--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"]
        self.process = subprocess.Popen(["qemu-storage-daemon", *server, *words])
        until(self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", int(re.findall("[0-9]+", self.target)[-1]))) == 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


def test_a_backup_on_an_nbd_server_and_its_way_back(
    ceph: Ceph, node: Node, guests: Guests, guest: Instance, tmp_path: Path
) -> None:
    for disk in ("vda", "vdb"):
        fill(guests, guest, disk)
    server = NbdServer(tmp_path)
    with server:
        first = back_up(guests, guest, target=server.target)
        write(guests, guest, "second")
        second = back_up(guests, guest, target=server.target, parent=first.backup_id)
        write(guests, guest, "lost")
        stop(guests, guest)
        assert second.target == server.target
        assert is_same(server.files[1], disk_in_file(node, guest))
        guests.finish(guests.client.restore_instance(guest.uuid, second.backup_id))
        refused = guests.fail(guests.client.restore_instance(guest.uuid, first.backup_id))
        assert refused.fault is not None and "went to the same exports" in refused.fault.message
    assert word_at(server.files[0], FAR) == "second"
    in_ceph = exported(ceph, node, disk_in_ceph(guest))
    assert holds(server.files[0], in_ceph)
    with server:
        third = back_up(guests, guest, target=server.target)
        overwritten = {one.backup_id: one.overwritten_by for one in guests.client.list_backups(guest.uuid)}
        assert overwritten == {one.backup_id: third.backup_id for one in (first, second)} | {third.backup_id: None}
    assert holds(server.files[0], in_ceph)
    refused = guests.fail(guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), target=server.target))
    assert refused.fault is not None and "Connection refused" in refused.fault.message
    for backup in (first, second, third):
        guests.client.delete_backup(backup.backup_id)


def test_an_nbd_server_that_dies_fails_the_backup_and_not_the_guest(
    node: Node, guests: Guests, guest: Instance, tmp_path: Path
) -> None:
    fill(guests, guest, mib=64)
    writing = "while :; do dd if=/dev/zero of=/dev/vda bs=64k count=1 seek=$((RANDOM % 6000)) conv=fsync,notrunc"
    run_inside(guests, guest.uuid, f"({writing}; echo x >>/tmp/x; done) >/dev/null 2>&1 & true")
    await_inside(guests, guest.uuid, "[ -s /tmp/x ]")
    with NbdServer(tmp_path, bytes_per_second=16 * MIB) as server:
        accepted = guests.client.backup_instance(guest.uuid, str(uuid.uuid4()), target=server.target)
        until(lambda: server.files[0].stat().st_size > 8 * MIB)
        server.process.kill()
        failed = guests.fail(accepted)
    assert failed.fault is not None and "could not be copied: Input/output error" in failed.fault.message
    assert guests.view(guest.uuid).vm_state is VmState.ACTIVE
    before = run_inside(guests, guest.uuid, "wc -l </tmp/x")
    await_inside(guests, guest.uuid, f"[ $(wc -l </tmp/x) -gt {before} ]")


def test_a_backup_of_an_encrypted_disk_is_as_secret(ceph: Ceph, node: Node, guests: Guests) -> None:
    """What is copied is the container; nothing is opened for it."""
    encryption = Encryption(secret_uuid=node.keep_secret("a long passphrase"))
    disk = BlockDevice(source_type="blank", backend="rbd", size_gb=1, encryption=encryption)
    guest = guests.boot(an_order(config_drive=False, block_devices=[disk]))
    write(guests, guest, "secret-word")
    backup = back_up(guests, guest)
    assert b"secret-word" not in file_of(node, backup).read_bytes()
    refused = guests.fail(guests.client.snapshot_instance(guest.uuid, str(uuid.uuid4())))
    assert refused.fault is not None and "disk0" in refused.fault.message and "is encrypted" in refused.fault.message
    stop(guests, guest)
    before = exported(ceph, node, disk_in_ceph(guest)).rename(node.directory / "before.raw")
    assert holds(file_of(node, backup), before)
    guests.finish(guests.client.restore_instance(guest.uuid, backup.backup_id))
    assert is_same(before, exported(ceph, node, disk_in_ceph(guest)), RAW)


class NoServers:
    """In place of block servers: none serves anything here."""

    def remove(self, instance_uuid: str, disk: str) -> None: ...


@pytest.mark.parametrize("way", ["on", "back"])
def test_an_exchange_in_ceph_that_was_cut_short_goes_on_or_back(ceph: Ceph, tmp_path: Path, way: str) -> None:
    user = ClusterUser(auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    clusters = Clusters(CephSettings(conf_dir=ceph.conf_dir, secret_dir=ceph.secret_dir))
    unwanted = PurgeQueue(tmp_path, partial(clusters.remove, host="node1"))
    note = Note(user=user, pool=ceph.pool, image="cut", own=True)
    place = Place(instance_uuid=str(uuid.uuid4()), directory=tmp_path, name="disk0")
    restorations = Restorations(
        SpareImages(
            own_pool=None,
            clusters=clusters,
            servers=cast(BlockServers, NoServers()),
            unwanted=unwanted,
            wake=lambda: None,
            describe=lambda place, device: note,
        )
    )
    restorations.exchange(place)
    write_note(place, note)
    (tmp_path / "disk0.restoring").touch()
    for name, size in (("cut", 1), ("cut.restored", 2)):
        ceph.rbd("create", f"{ceph.pool}/{name}", "--size", f"{size}M")
    ceph.rbd("mv", f"{ceph.pool}/cut", f"{ceph.pool}/cut.former")
    verb, size = (restorations.exchange, 2) if way == "on" else (restorations.exchange_back, 1)
    for _ in range(2):
        verb(place)
        assert clusters.get(user).info(ceph.pool, "cut").size == size * MIB
    for _ in range(2):
        restorations.finish(place)
    assert unwanted.run_due() == 0
    assert [name for name in ceph.rbd("ls", ceph.pool).split() if name.startswith("cut")] == ["cut"]
    ceph.rbd("rm", "--no-progress", f"{ceph.pool}/cut")
    clusters.close()
