"""Disks that a block server has open for a guest are copied at one moment, while a virtio driver writes to them."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

from compute_agent.block.copies import DiskCopies, DiskCopy
from compute_agent.errors import InsufficientResources, MonitorError, StorageError
from compute_agent.instance.block_device import (
    BlockDevice,
    Encryption,
    FileConnection,
    FileVolume,
    RbdConnection,
    RbdVolume,
)
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings
from sandbox.ceph import Ceph
from tests.functional.containers import make_encrypted
from tests.functional.guests import until
from tests.functional.serving import (
    Agent,
    Plug,
    a_volume,
    agent,
    content,
    dies,
    disks,
    ended,
    kinds,
    moments,
    opened,
    plug,
    running,
    served,
    server_of,
    settings,
    write,
)
from tests.unit.storage.making import ignore, qemu_img
from tests.unit.virt.vmm.parts import parts
from tests.unit.virt.vmm.virtio.driver import DriverQueue
from tests.unit.virt.vmm.virtio.storage import MIB, SECTOR, image_has

__all__ = ["agent", "disks", "ended", "kinds", "parts", "plug", "settings"]

SECONDS = 30


@pytest.fixture
def two(kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug) -> tuple[Instance, list[DriverQueue]]:
    """Disks of a guest, in files: an overlay, and a raw one."""
    return running(disks, plug, kinds["overlay"], kinds["raw"])


def an_order(instance: Instance, **changes: Any) -> CopyOrder:
    order = CopyOrder(kind="backup", copy_id=str(uuid.uuid4()), instance=instance, devices=instance.block_devices)
    return replace(order, **changes)


def begin(disks: NodeDisks, order: CopyOrder) -> None:
    """As the agent does."""
    disks.copies.prepare(order)
    assert begin_prepared(disks, order) is False, "nobody is asked to freeze anything"


def begin_prepared(disks: NodeDisks, order: CopyOrder) -> bool | None:
    copies = []
    for device in order.devices:
        name = str(device.device_name)
        target = disks.copies.open(order, name)
        copies.append(DiskCopy(disk=name, target=target, since=order.parent, mark=order.copy_id))
    try:
        return opened(disks, order.instance).copies.begin(order.copy_id, copies)
    finally:
        for copy in copies:
            if isinstance(copy.target, NbdSource):
                copy.target.close()


def finish(disks: NodeDisks, order: CopyOrder) -> None:
    copies = opened(disks, order.instance).copies
    await_end(copies, order)
    copies.end()
    disks.copies.keep(order, ignore)
    for device in order.devices:
        copies.forget_marks(str(device.device_name), {order.copy_id})


def await_end(copies: DiskCopies, order: CopyOrder) -> None:
    due = time.monotonic() + SECONDS
    while copies.progress(order.copy_id, 1) < 100:
        assert time.monotonic() < due


def copied(settings: StorageSettings, order: CopyOrder, disk: str) -> Path:
    return settings.backup_dir / order.copy_id / f"{disk}.qcow2"


def holds(path: Path, *bytes_: int) -> bool:
    """These, at 1 MiB, 2 MiB, and so on."""
    return all(image_has(path, byte, (number + 1) * MIB, SECTOR) for number, byte in enumerate(bytes_))


def test_all_disks_are_copied_at_one_moment_while_they_are_written_to(
    two: tuple[Instance, list[DriverQueue]], disks: NodeDisks, settings: StorageSettings
) -> None:
    instance, queues = two
    for queue in queues:
        write(queue, 2 * MIB, b"\1")
    full = an_order(instance)
    begin(disks, full)
    for queue in queues:
        write(queue, 2 * MIB, b"\2")
        write(queue, 3 * MIB, b"\3")
    finish(disks, full)
    later = an_order(instance, parent=full.copy_id)
    begin(disks, later)
    for queue in queues:
        write(queue, 2 * MIB, b"\4")
        write(queue, MIB, b"\5")
    finish(disks, later)
    for disk in ("disk0", "disk1"):
        assert holds(copied(settings, full, disk), 7, 1, 0)
        assert holds(copied(settings, later, disk), 7, 2, 3)
        assert copied(settings, later, disk).stat().st_blocks < 4 * MIB // 512, "what had changed, and no more"
    assert [content(queue, 2 * MIB)[:1] for queue in queues] == [b"\4", b"\4"]


def test_what_was_written_to_one_disk_before_another_is_copied_before_it(
    two: tuple[Instance, list[DriverQueue]], disks: NodeDisks, settings: StorageSettings, tmp_path: Path
) -> None:
    (instance, queues), enough = two, threading.Event()

    def write_on() -> None:
        for number in takewhile(lambda _: not enough.is_set(), count(1)):
            for queue in queues:
                write(queue, 2 * MIB, bytes([number % 256]))

    writing = threading.Thread(target=write_on)
    writing.start()
    try:
        for _ in range(3):
            order = an_order(instance)
            begin(disks, order)
            finish(disks, order)
            numbers = []
            for disk in ("disk0", "disk1"):
                qemu_img("convert", "-O", "raw", str(copied(settings, order, disk)), str(tmp_path / disk))
                numbers.append((tmp_path / disk).read_bytes()[2 * MIB])
            assert (numbers[0] - numbers[1]) % 256 in (0, 1)
    finally:
        enough.set()
        writing.join()
    assert content(queues[0], 2 * MIB) == content(queues[1], 2 * MIB), "it went on"


def test_disks_in_ceph_are_copied_to_ceph(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, ceph: Ceph, tmp_path: Path
) -> None:
    instance, (queue,) = running(disks, plug, kinds["rbd"])
    full = an_order(instance, target="rbd")
    begin(disks, full)
    write(queue, 2 * MIB, b"\2")
    finish(disks, full)
    later = an_order(instance, target="rbd", parent=full.copy_id)
    begin(disks, later)
    write(queue, 2 * MIB, b"\3")
    finish(disks, later)
    for order, second in ((full, 0), (later, 2)):
        path = tmp_path / order.copy_id
        ceph.rbd("export", f"{ceph.pool}/backup-{order.copy_id}-disk0", str(path))
        assert [path.read_bytes()[at * MIB] for at in (1, 2)] == [7, second]


PORT = 10999


@pytest.fixture
def elsewhere(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """What is in the file is what an NBD server has as ``x-disk0``, of 64 MiB or as large as the test wants it."""
    path, size = tmp_path / "elsewhere", getattr(request, "param", "64M")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, size], check=True)
    server = subprocess.Popen(["qemu-nbd", "-t", "-e", "8", "-p", str(PORT), "-x", "x-disk0", "-f", "qcow2", path])
    until(lambda: is_heard(PORT))
    yield path
    server.kill()
    server.wait()


def is_heard(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@dataclass(frozen=True)
class Silent:
    """A target that says nothing from the first block on that is written to it, until it goes on."""

    target: str
    goes_on: threading.Event = field(default_factory=threading.Event)

    def pass_on(self, source: socket.socket, target: socket.socket, longest: int) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 20):
                if len(piece) > longest:
                    self.goes_on.wait()
                target.sendall(piece)


@pytest.fixture
def silent(elsewhere: Path) -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as opened:
        silent = Silent(f"nbd://127.0.0.1:{listening.getsockname()[1]}/x-")

        def serve() -> None:
            with suppress(OSError):
                while connection := opened.enter_context(listening.accept()[0]):
                    far = opened.enter_context(socket.create_connection(("127.0.0.1", PORT)))
                    for way in ((connection, far, 4096), (far, connection, 1 << 20)):
                        threading.Thread(target=silent.pass_on, args=way, daemon=True).start()

        serving = threading.Thread(target=serve)
        serving.start()
        yield silent
        silent.goes_on.set()
        listening.shutdown(socket.SHUT_RDWR)
        serving.join()


def test_a_disk_is_copied_to_an_nbd_server(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, elsewhere: Path
) -> None:
    instance, (queue,) = running(disks, plug, kinds["overlay"])
    order = an_order(instance, target=f"nbd://127.0.0.1:{PORT}/x-")
    begin(disks, order)
    write(queue, 2 * MIB, b"\2")
    finish(disks, order)
    for byte, at in ((7, MIB), (0, 2 * MIB)):
        read = ["qemu-io", "-r", "-f", "raw", "-c", f"read -P {byte} {at} 512", f"nbd://127.0.0.1:{PORT}/x-disk0"]
        assert "failed" not in subprocess.run(read, check=True, capture_output=True, text=True).stdout


def test_a_target_that_falls_silent_is_cut_off_and_the_guest_does_not_notice(
    kinds: dict[str, BlockDevice], agent: Agent, plug: Plug, silent: Silent
) -> None:
    """Also by an agent that has not begun the copy."""
    disks = agent()
    instance, (queue,) = running(disks, plug, kinds["overlay"])
    order = an_order(instance, target=silent.target)
    begin(disks, order)
    write(queue, MIB, b"\2")
    disks = agent()
    copies = opened(disks, instance).copies
    assert copies.progress(order.copy_id, 0.1) < 100
    write(queue, MIB, b"\3")
    copies.end()
    write(queue, MIB, b"\4")
    assert content(queue, MIB)[:1] == b"\4"
    disks.copies.discard(order)


def test_the_next_agent_finds_the_copies_of_the_last(
    two: tuple[Instance, list[DriverQueue]], agent: Agent, settings: StorageSettings
) -> None:
    instance, (queue, _) = two
    disks = agent()
    order = an_order(instance)
    begin(disks, order)
    write(queue, MIB, b"\2")
    disks = agent()
    assert opened(disks, instance).copies.begin(order.copy_id, []) is None
    finish(disks, order)
    assert holds(copied(settings, order, "disk0"), 7, 0)
    assert opened(disks, instance).copies.marks("disk0") == {order.copy_id}


def test_whenever_an_agent_dies_the_next_one_copies(
    two: tuple[Instance, list[DriverQueue]],
    agent: Agent,
    settings: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (instance, queues), disks = two, agent()
    for moment in moments():
        for queue in queues:
            write(queue, 2 * MIB, bytes([moment % 256]))
        order = an_order(instance)
        disks.copies.prepare(order)
        has_died = dies(monkeypatch, moment, partial(begin_prepared, disks, order))
        disks = agent()
        begin_prepared(disks, order)
        for queue in queues:
            write(queue, 2 * MIB, b"\xff")
        finish(disks, order)
        for disk in ("disk0", "disk1"):
            assert holds(copied(settings, order, disk), 7, moment % 256), moment
            assert opened(disks, instance).copies.marks(disk) == {order.copy_id}
        if not has_died:
            return


def test_whenever_an_agent_dies_the_next_one_gives_copies_up(
    two: tuple[Instance, list[DriverQueue]], agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance, queues), disks = two, agent()
    for moment in moments():
        order = an_order(instance)
        begin(disks, order)
        has_died = dies(monkeypatch, moment, opened(disks, instance).copies.end)
        disks = agent()
        opened(disks, instance).copies.end()
        disks.copies.discard(order)
        for queue in queues:
            write(queue, 2 * MIB, bytes([moment % 256]))
        if not has_died:
            return


def test_what_is_given_up_leaves_the_disk_as_it_was(two: tuple[Instance, list[DriverQueue]], disks: NodeDisks) -> None:
    instance, (queue, _) = two
    order = an_order(instance)
    begin(disks, order)
    copies = opened(disks, instance).copies
    for _ in range(2):
        copies.end()
    with pytest.raises(MonitorError, match="does not copy them any more"):
        copies.progress(order.copy_id, 0)
    write(queue, MIB, b"\2")
    target = disks.copies.open(order, "disk0")
    with pytest.raises(MonitorError, match="unheard-of"):
        copies.begin("later", [DiskCopy(disk="disk0", target=target, since="unheard-of")])
    write(queue, MIB, b"\3")
    disks.copies.discard(order)


def test_marks_outlive_a_server_that_ends_in_good_order(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, settings: StorageSettings, ended: Queue[str]
) -> None:
    instance, _ = running(disks, plug, kinds["overlay"])
    order = an_order(instance)
    begin(disks, order)
    finish(disks, order)
    disks.disconnect(instance.uuid)
    served(disks, instance)[0].close()
    assert opened(disks, instance).copies.marks("disk0") == {order.copy_id}
    server_of(settings, instance).kill()
    ended.get(timeout=SECONDS)
    assert disks.find_served_disks(instance) is None
    served(disks, instance)[0].close()
    assert opened(disks, instance).copies.marks("disk0") == set(), "nobody knows what it had not written down"


def test_a_server_that_dies_takes_its_copies_with_it(
    two: tuple[Instance, list[DriverQueue]], disks: NodeDisks, settings: StorageSettings, ended: Queue[str]
) -> None:
    instance, _ = two
    order = an_order(instance)
    begin(disks, order)
    copies = opened(disks, instance).copies
    server_of(settings, instance).kill()
    with pytest.raises(StorageError, match="ended"):
        await_end(copies, order)
    ended.get(timeout=SECONDS)
    disks.copies.discard(order)
    disks.copies.forget_mark(order)
    assert list(settings.backup_dir.iterdir()) == []
    for disk in served(disks, instance):
        disk.close()
    again = an_order(instance)
    begin(disks, again)
    finish(disks, again)


def test_a_disk_that_goes_is_not_copied_any_more(two: tuple[Instance, list[DriverQueue]], disks: NodeDisks) -> None:
    """An agent could not end its copies in time, and now somebody ends the instance."""
    instance, _ = two
    begin(disks, an_order(instance))
    disks.disconnect(instance.uuid)
    assert disks.find_served_disks(instance) is None
    disks.copies.tidy(lambda _: False)


@pytest.mark.parametrize("elsewhere", ["1G"], indirect=True)
def test_where_there_is_no_room_the_copy_fails_and_not_the_guest(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, settings: StorageSettings, silent: Silent
) -> None:
    """What it writes to is beyond the 64 MiB that a copy may have read while its target says nothing."""
    os.truncate(settings.volume_dirs[0] / "volume.raw", 1024 * MIB)
    instance, (queue,) = running(disks, plug, kinds["raw"])
    order = an_order(instance, target=silent.target)
    directory = settings.disk_dir / instance.uuid
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", directory], check=True)
    try:
        begin(disks, order)
        for number in range(8):
            write(queue, (1000 + number) * MIB, b"\2")
        silent.goes_on.set()
        copies = opened(disks, instance).copies
        with pytest.raises(MonitorError, match=f"disk0 could not be copied: what .* could not be kept in {directory}"):
            await_end(copies, order)
        copies.end()
        assert content(queue, 1007 * MIB)[:1] == b"\2"
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
    disks.copies.discard(order)


def test_a_disk_that_is_only_read_is_copied(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, settings: StorageSettings
) -> None:
    connection = kinds["raw"].connection_info
    assert isinstance(connection, FileConnection)
    data = msgspec.structs.replace(connection.data, access_mode="ro")
    instance, _ = running(disks, plug, msgspec.structs.replace(kinds["raw"], connection_info=FileConnection(data=data)))
    order = an_order(instance)
    begin(disks, order)
    finish(disks, order)
    assert holds(copied(settings, order, "disk0"), 7, 0)


def test_guests_own_disks_keep_the_room_that_is_reserved(
    kinds: dict[str, BlockDevice], agent: Agent, plug: Plug, silent: Silent
) -> None:
    disks = agent()
    instance, _ = running(disks, plug, kinds["raw"])
    order = an_order(instance, target=silent.target)
    begin(disks, order)
    copies = opened(agent(reserved_space=1 << 60), instance).copies
    with pytest.raises(InsufficientResources, match="not enough space"):
        copies.progress(order.copy_id, 0)
    copies.end()
    disks.copies.discard(order)


@pytest.fixture(params=["file", "rbd"])
def encrypted(request: pytest.FixtureRequest, ceph: Ceph, settings: StorageSettings) -> tuple[BlockDevice, Path]:
    """A volume that holds a LUKS container, and what its passphrase is in."""
    secret, path = ceph.secret_dir / str(uuid.uuid4()), settings.volume_dirs[0] / "container"
    secret.write_text("open sesame")
    secret.chmod(0o600)
    make_encrypted(path, "luks", secret)
    connection: FileConnection | RbdConnection = FileConnection(data=FileVolume(path=str(path), format="raw"))
    if request.param == "rbd":
        name = f"{ceph.pool}/container-{secret.name}"
        ceph.rbd("import", "--no-progress", str(path), name)
        connection = RbdConnection(data=RbdVolume(name=name, auth_username=ceph.user, secret_uuid=ceph.secret_uuid))
    return msgspec.structs.replace(a_volume(connection), encryption=Encryption(secret_uuid=secret.name)), secret


def test_of_an_encrypted_disk_the_container_is_copied(
    encrypted: tuple[BlockDevice, Path], agent: Agent, plug: Plug, settings: StorageSettings
) -> None:
    (device, secret), disks = encrypted, agent()
    instance, (queue,) = running(disks, plug, device)
    write(queue, MIB, b"\1")
    full = an_order(instance)
    begin(disks, full)
    write(queue, MIB, b"\2")
    finish(disks, full)
    disks = agent()
    later = an_order(instance, parent=full.copy_id)
    begin(disks, later)
    write(queue, MIB, b"\3")
    finish(disks, later)
    for order, byte in ((full, 1), (later, 2)):
        image = f"driver=luks,key-secret=s,file.driver=qcow2,file.file.filename={copied(settings, order, 'disk0')}"
        read = ["qemu-io", "-r", "--object", f"secret,id=s,file={secret}", "--image-opts", image]
        found = subprocess.run([*read, "-c", f"read -P {byte} 1M 512"], check=True, capture_output=True, text=True)
        assert "failed" not in found.stdout
    assert content(queue, MIB)[:1] == b"\3"
