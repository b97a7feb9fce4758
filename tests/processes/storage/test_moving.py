"""Disks of stopped instances go from one node to another, whole or not at all."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import InsufficientResources, MigrationFailed, StorageError
from compute_agent.host.encryption import SealedServer, sealed
from compute_agent.instance.block_device import BlockDevice, Encryption
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.model import Instance
from compute_agent.storage.moving import stream
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings
from tests.unit.storage.making import UUID, ignore, local_disk, make_instance, open_disks, qemu_img

BOTH = ["disk0", "disk1"]
LAYERS = tuple(f"00000000-0000-4000-8000-00000000000{digit}" for digit in "12")
KEY = "ab" * 32


@pytest.fixture
def instance(sources: Path, qcow2_content: bytes) -> Instance:
    """A disk on an image, and an empty one."""
    blank = BlockDevice(source_type="blank", size_gb=1)
    return with_named_devices(make_instance(local_disk(sources, qcow2_content), blank, config_drive=False))


@pytest.fixture
def source(disks: NodeDisks, instance: Instance, settings: StorageSettings) -> NodeDisks:
    """The node that has it, with something written to each disk."""
    disks.create(instance, ignore)
    for disk in BOTH:
        command = ("qemu-io", "-f", "qcow2", "-c", "write -P 3 5M 100k", str(file_of(settings, instance, disk)))
        subprocess.run(command, check=True, capture_output=True, timeout=20)
    return disks


@pytest.fixture
def there(settings: StorageSettings, tmp_path: Path) -> StorageSettings:
    """Of the other node, whose directories are called otherwise."""
    directories = {f"{name}_dir": tmp_path / f"there-{name}" for name in ("disk", "image", "snapshot", "backup")}
    return replace(settings, **directories)


@pytest.fixture
def dest(there: StorageSettings, instance: Instance) -> NodeDisks:
    """It has made disks with nothing in them."""
    disks = open_disks(there)
    disks.create(instance, ignore)
    return disks


def file_of(settings: StorageSettings, instance: Instance, disk: str) -> Path:
    return settings.disk_dir / instance.uuid / f"{disk}.qcow2"


def move(
    source: NodeDisks,
    dest: NodeDisks,
    instance: Instance,
    progress: Callable[[int], None] = ignore,
    *,
    files: Sequence[str] = BOTH,
    encrypted: bool = True,
) -> None:
    """What fails first is raised."""
    line, server = socket.socketpair(), SealedServer(KEY)

    def receive() -> None:
        with server.accept(line[1]) if encrypted else line[1] as end:
            dest.moves.files.receive(instance, files, end)

    with ThreadPoolExecutor(1) as receiver:
        received = receiver.submit(receive)
        with sealed(line[0], server.certificate, KEY if encrypted else None) as end:
            source.moves.files.send(instance, files, end, 0, progress)
        received.result()


@pytest.fixture(params=[True, False], ids=["encrypted", "plain"])
def moved(request: pytest.FixtureRequest, source: NodeDisks, dest: NodeDisks, instance: Instance) -> list[int]:
    """What was told of its progress."""
    told: list[int] = []
    move(source, dest, instance, told.append, encrypted=request.param)
    return told


def test_all_that_was_written_is_there(
    moved: list[int], dest: NodeDisks, instance: Instance, settings: StorageSettings, there: StorageSettings
) -> None:
    assert dest.moves.files.has_all(instance, BOTH)
    assert moved == sorted(moved) and 50 < moved[-1] < 100
    for _ in range(2):
        dest.moves.files.take(instance)
    for disk in BOTH:
        here, came = (file_of(where, instance, disk) for where in (settings, there))
        assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "qcow2", str(here), str(came))
        assert came.stat().st_blocks <= here.stat().st_blocks + 16, "holes were filled"
    names = {path.name for path in (there.disk_dir / instance.uuid).iterdir()}
    assert names == {"disk0.qcow2", "disk1.qcow2"}


def test_it_stands_on_the_image_of_the_node_that_it_is_on(
    source: NodeDisks, dest: NodeDisks, instance: Instance, there: StorageSettings
) -> None:
    move(source, dest, instance)
    dest.moves.files.take(instance)
    said = json.loads(qemu_img("info", "--output=json", str(file_of(there, instance, "disk0"))))
    assert Path(said["full-backing-filename"]).is_relative_to(there.image_dir)


def with_layers(instance: Instance, count: int) -> Instance:
    """The first disk has so many."""
    first, *others = instance.block_devices
    layered = msgspec.structs.replace(first, layers=LAYERS[:count])
    return msgspec.structs.replace(instance, block_devices=[layered, *others])


def make_layers(disks: NodeDisks, instance: Instance, directory: Path | None = None) -> Instance:
    """Each with something in it, where a directory is given; the instance with all of them."""
    for count, layer in enumerate(LAYERS):
        present = with_layers(instance, count)
        disks.layers.make(present, present.block_devices[0], layer)
        if directory is not None:
            write = f"write -P {count + 5} {count + 6}M 64k"
            path = str(directory / instance.uuid / f"disk0.qcow2.{layer}")
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, path], check=True, capture_output=True, timeout=20)
    return with_layers(instance, len(LAYERS))


def test_a_disk_with_layers_comes_with_them_and_one_can_be_deleted_there(
    source: NodeDisks, dest: NodeDisks, instance: Instance, settings: StorageSettings, there: StorageSettings
) -> None:
    layered = make_layers(source, instance, settings.disk_dir)
    make_layers(dest, instance)
    files = dest.moves.files.all_of(layered, BOTH)
    assert files == ["disk0", f"disk0.{LAYERS[0]}", f"disk0.{LAYERS[1]}", "disk1"]
    move(source, dest, layered, files=files)
    assert dest.moves.files.has_all(layered, files)
    dest.moves.files.take(layered)
    for name in (f"disk0.qcow2.{LAYERS[1]}", f"disk0.qcow2.{LAYERS[0]}", "disk0.qcow2"):
        here, came = (str(where.disk_dir / instance.uuid / name) for where in (settings, there))
        assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "qcow2", here, came)
        assert Path(json.loads(qemu_img("info", "--output=json", came))["full-backing-filename"]).is_relative_to(
            there.disk_dir if name != "disk0.qcow2" else there.image_dir
        )
    dest.layers.commit(layered, layered.block_devices[0], LAYERS[0])
    newest = str(there.disk_dir / instance.uuid / f"disk0.qcow2.{LAYERS[1]}")
    same = str(settings.disk_dir / instance.uuid / f"disk0.qcow2.{LAYERS[1]}")
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "qcow2", same, newest)


def test_what_a_running_guest_only_reads_comes_first_and_its_newest_layer_stands_on_it(
    source: NodeDisks, dest: NodeDisks, instance: Instance, settings: StorageSettings, there: StorageSettings
) -> None:
    layered = make_layers(source, instance, settings.disk_dir)
    make_layers(dest, instance)
    lower = source.moves.files.lower_of(layered, BOTH)
    assert lower == ["disk0", f"disk0.{LAYERS[0]}"]
    move(source, dest, layered, files=lower)
    dest.moves.files.take(layered)
    there_newest = str(there.disk_dir / instance.uuid / f"disk0.qcow2.{LAYERS[1]}")
    below = str(settings.disk_dir / instance.uuid / f"disk0.qcow2.{LAYERS[0]}")
    assert "identical" in qemu_img("compare", "-f", "qcow2", "-F", "qcow2", below, there_newest)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A qcow2 that ``secret`` opens. QEMU 7.2 cannot measure now and then how much work a passphrase is."""
    path, options = tmp_path_factory.mktemp("encrypted") / "disk", "encrypt.format=luks,encrypt.key-secret=s"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=secret", "-o"]
    for _ in range(20):
        done = subprocess.run(
            [*command, f"{options},encrypt.iter-time=10", str(path), "1M"], capture_output=True, timeout=60
        )
        if done.returncode == 0:
            return path.read_bytes()
    raise AssertionError(done.stderr)


@pytest.mark.parametrize(("known", "opens"), [("secret", True), ("another", False)])
def test_an_encrypted_disk_goes_as_it_is_and_has_to_be_opened_there(
    settings: StorageSettings, there: StorageSettings, encrypted: bytes, tmp_path: Path, known: str, *, opens: bool
) -> None:
    device = BlockDevice(source_type="blank", device_name="disk0", size_gb=1, encryption=Encryption(secret_uuid=UUID))
    instance = make_instance(device)
    here, other = (
        open_disks(_with_secret(where, tmp_path / f"secrets-{name}", passphrase))
        for where, name, passphrase in ((settings, "here", "secret"), (there, "there", known))
    )
    for where, content in ((settings, encrypted), (there, b"what was made there")):
        file_of(where, instance, "disk0").parent.mkdir()
        file_of(where, instance, "disk0").write_bytes(content)
    if opens:
        move(here, other, instance, files=["disk0"])
        other.moves.files.take(instance)
        assert file_of(there, instance, "disk0").read_bytes() == encrypted
    else:
        with pytest.raises(StorageError, match=r"disk0 is not what it should be: .*Invalid password|has not kept"):
            move(here, other, instance, files=["disk0"])
        assert not other.moves.files.has_all(instance, ["disk0"])


def _with_secret(settings: StorageSettings, directory: Path, passphrase: str) -> StorageSettings:
    directory.mkdir()
    (directory / UUID).touch(mode=0o600)
    (directory / UUID).write_text(passphrase)
    ceph = replace(settings.rbd.ceph, secret_dir=directory)
    return replace(settings, rbd=replace(settings.rbd, ceph=ceph))


def test_what_was_cut_short_is_not_there_and_comes_again(
    source: NodeDisks, dest: NodeDisks, instance: Instance
) -> None:
    def stop(percent: int) -> None:
        raise MigrationFailed("somebody wished so")

    with pytest.raises(MigrationFailed):
        move(source, dest, instance, stop)
    assert not dest.moves.files.has_all(instance, BOTH)
    move(source, dest, instance)
    assert dest.moves.files.has_all(instance, BOTH)


def test_a_node_without_room_says_so_and_the_sender_gets_to_know(
    source: NodeDisks, dest: NodeDisks, instance: Instance, there: StorageSettings
) -> None:
    full, line = open_disks(replace(there, reserved_space=1 << 60)), socket.socketpair()
    with ThreadPoolExecutor(1) as sender:
        sent = sender.submit(source.moves.files.send, instance, BOTH, line[0], 0, ignore)
        with line[1], pytest.raises(InsufficientResources):
            full.moves.files.receive(instance, BOTH, line[1])
        with pytest.raises(StorageError):
            sent.result()


def head(disk: str, size: int) -> bytes:
    said = msgspec.json.encode(stream.FileHead(disk=disk, size=size))
    return struct.pack(">Q", len(said)) + said


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (head("disk7", 10), "none of the disks"),
        (head("../disk0", 10), "none of the disks"),
        (head("disk0", 10) + struct.pack(">QQ", 8, 4), "outside of it"),
        (head("disk0", 4) + struct.pack(">QQ", 0, 4) + b"nope" + struct.pack(">QQ", 0, 0), "not in qcow2 format"),
        (head("disk1", 65536), "ended the connection early"),
        (struct.pack(">Q", 1 << 40), "has 1099511627776 bytes"),
        (struct.pack(">Q", 4) + b"nope", "cannot be read"),
        (struct.pack(">Q", 2) + b"{}", "not all disks"),
    ],
)
def test_what_is_no_disk_is_not_kept(
    dest: NodeDisks, instance: Instance, there: StorageSettings, sent: bytes, reason: str
) -> None:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.sendall(sent)
        sender.shutdown(socket.SHUT_WR)
        with pytest.raises(StorageError, match=reason):
            dest.moves.files.receive(instance, BOTH, receiver)
    assert {path.suffix for path in (there.disk_dir / instance.uuid).iterdir()} == {".qcow2"}


def test_no_more_is_sent_in_a_second_than_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(stream.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stream.time, "sleep", sleep)
    sent: list[int] = []
    limited, unlimited = stream.pacer(100, sent.append), stream.pacer(0, sent.append)
    for _ in range(3):
        limited(50)
    unlimited(1000)
    assert (sum(slept), sent) == (1.5, [50, 50, 50, 1000])
