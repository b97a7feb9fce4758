"""Disks that a block server has open for a guest go to another host's, while a virtio driver writes to them."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from compute_agent.block.mirrors import DiskMirrors
from compute_agent.errors import MonitorError, StorageError
from compute_agent.instance.block_device import BlockDevice, Encryption
from compute_agent.instance.devices import Disk, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.moving.contract import ServedMoves
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.server.launch import find_servers
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.settings import StorageSettings
from sandbox.ceph import Ceph
from tests.functional.guests import until
from tests.functional.serving import (
    BLANK,
    FIRST_USER,
    Agent,
    Plug,
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
    settings,
    write,
)
from tests.unit.storage.making import ignore
from tests.unit.virt.vmm.parts import parts
from tests.unit.virt.vmm.virtio.driver import DriverQueue
from tests.unit.virt.vmm.virtio.storage import MIB, SECTOR

__all__ = ["agent", "disks", "ended", "kinds", "parts", "plug", "settings"]

KEY = "ab" * 32
LAYER = "00000000-0000-4000-8000-000000000001"
PORTS = range(51300, 51340)


class Host:
    """The other one, on the same machine, with nothing but the same images."""

    def __init__(self, settings: StorageSettings, directory: Path, run_dir: Path) -> None:
        servers = replace(settings.rbd.servers, run_dir=run_dir, uid_base=FIRST_USER + 30_000)
        self._settings = replace(
            settings,
            disk_dir=directory / "disks",
            image_dir=directory / "images",
            rbd=replace(settings.rbd, servers=servers, state_dir=directory / "ceph"),
        )
        self.ended: Queue[str] = Queue()
        self.begin()

    def begin(self) -> None:
        """A life of its agent."""
        self.servers = BlockServers(self._settings.rbd.servers, self.ended.put)
        self.disks = NodeDisks(self._settings, self.servers)

    def end(self) -> None:
        """The agent's; its servers go on."""
        self.disks.close()

    def await_guest(self, instance: Instance) -> None:
        """As an agent does, with nobody who runs the guest yet."""
        self.disks.moves.disown(instance.uuid)
        self.disks.create(instance, ignore)
        for disk in served(self.disks, instance):
            disk.close()

    def resume(self, instance: Instance, plug: Plug) -> list[DriverQueue]:
        """What the guest has of its disks when it goes on here."""
        disks = enumerate(served(self.disks, instance))
        return [queue for number, disk in disks for queue in plug(disk).set_up(address=0x100000 * number + 0x180000)]

    def clear_away(self) -> None:
        """Nothing of any server may be left."""
        for instance_uuid in self.disks.inspect():
            self.disks.delete(instance_uuid)
        self.end()
        assert find_servers(self._settings.rbd.servers.run_dir) == {}


@pytest.fixture
def there(settings: StorageSettings, directory: Path, tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "there").mkdir()
    host = Host(settings, tmp_path / "there", directory / uuid.uuid4().hex[:8])
    yield host
    host.clear_away()


@pytest.fixture
def leaving(
    kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug, there: Host
) -> tuple[Instance, list[DriverQueue]]:
    """What its guest has of its disks here; there it is waited for."""
    instance, queues = running(disks, plug, kinds["overlay"], BLANK)
    there.await_guest(instance)
    return instance, queues


def moves_of(disks: NodeDisks, instance: Instance) -> ServedMoves:
    found = disks.moves.served(instance.uuid)
    assert found is not None
    return found


def names_of(instance: Instance) -> list[str]:
    return [str(device.device_name) for device in instance.block_devices]


@contextmanager
def connected(names: Sequence[str], port: int) -> Iterator[dict[str, NbdSource]]:
    """As the agent that leads dials for each disk."""
    with ExitStack() as opened:
        found = {}
        for name in names:
            connection = opened.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
            found[name] = NbdSource(export=name, fd=connection.fileno())
        yield found


def begin(here: NodeDisks, there: Host, instance: Instance, key: str | None = KEY) -> DiskMirrors:
    """All is on its way when this returns."""
    names, mirrors = names_of(instance), moves_of(here, instance).mirrors
    port = moves_of(there.disks, instance).let_in(names, "127.0.0.1", PORTS, KEY)
    with connected(names, port) as targets:
        mirrors.begin(targets, 0, key)
    return mirrors


def await_all(mirrors: DiskMirrors) -> None:
    until(lambda: all(job["status"] == "ready" for job in mirrors.jobs()))


def test_a_guest_finds_there_what_it_wrote_before_and_meanwhile(
    leaving: tuple[Instance, list[DriverQueue]], disks: NodeDisks, plug: Plug, there: Host
) -> None:
    instance, queues = leaving
    write(queues[0], 8 * MIB, b"1")
    write(queues[1], 512 * MIB, b"2")
    mirrors = begin(disks, there, instance)
    write(queues[0], 16 * MIB, b"3")
    await_all(mirrors)
    write(queues[1], 600 * MIB, b"4")
    mirrors.finish()
    assert mirrors.jobs() == []
    for _ in range(2):
        moves_of(there.disks, instance).shut()
    first, second = there.resume(instance, plug)
    assert [content(first, place * MIB)[:1] for place in (1, 8, 16)] == [b"\x07", b"1", b"3"]
    assert [content(second, place * MIB) for place in (512, 600)] == [b"2" * SECTOR, b"4" * SECTOR]
    write(first, 8 * MIB, b"5")
    assert content(queues[0], 8 * MIB) == b"1" * SECTOR, "it is the other host's from now on"


def test_an_encrypted_disk_is_opened_there_with_the_same_passphrase(
    disks: NodeDisks, plug: Plug, there: Host, ceph: Ceph
) -> None:
    secret = ceph.secret_dir / str(uuid.uuid4())
    secret.touch(mode=0o600)
    secret.write_text("secret")
    device = msgspec.structs.replace(BLANK, encryption=Encryption(secret_uuid=secret.name))
    instance, (queue,) = running(disks, plug, device)
    there.await_guest(instance)
    write(queue, 8 * MIB, b"1")
    mirrors = begin(disks, there, instance)
    await_all(mirrors)
    write(queue, 16 * MIB, b"2")
    mirrors.finish()
    moves_of(there.disks, instance).shut()
    (came,) = there.resume(instance, plug)
    assert [content(came, place * MIB)[:1] for place in (1, 8, 16)] == [b"\0", b"1", b"2"]


def test_a_disk_with_a_layer_has_it_there(
    leaving: tuple[Instance, list[DriverQueue]],
    disks: NodeDisks,
    plug: Plug,
    there: Host,
    kinds: dict[str, BlockDevice],
) -> None:
    """What the guest only reads comes first, as a file; then who waits for it can be started."""
    instance, (first, _) = leaving
    there.disks.disconnect(instance.uuid)
    write(first, 8 * MIB, b"1")
    layered = _with_layer(disks, instance)
    opened(disks, layered).layers.add(_first(disks, layered))
    write(first, 16 * MIB, b"2")
    _send_lower(disks, there, instance, layered)
    for disk in served(there.disks, layered):
        disk.close()
    mirrors = begin(disks, there, layered)
    await_all(mirrors)
    mirrors.finish()
    moves_of(there.disks, layered).shut()
    came = there.resume(layered, plug)
    assert [content(came[0], place * MIB)[:1] for place in (1, 8, 16)] == [b"\x07", b"1", b"2"]
    layers, disk = opened(there.disks, layered).layers, _first(there.disks, layered)
    layers.begin_commit("commit", disk, LAYER)
    until(lambda: layers.progress("commit", 1.0) == 100)
    layers.finish("commit", disk, LAYER)
    assert [content(came[0], place * MIB)[:1] for place in (1, 8, 16)] == [b"\x07", b"1", b"2"]


def _first(disks: NodeDisks, instance: Instance) -> Disk:
    """Of its disks, in files."""
    return disks.connect_disk(instance, instance.block_devices[0], vhost_user=False)


def _with_layer(disks: NodeDisks, instance: Instance) -> Instance:
    """On its first disk."""
    first, *others = instance.block_devices
    disks.layers.make(instance, first, LAYER)
    layered = msgspec.structs.replace(first, layers=(LAYER,))
    return msgspec.structs.replace(instance, block_devices=[layered, *others])


def _send_lower(here: NodeDisks, there: Host, bare: Instance, layered: Instance) -> None:
    there.disks.layers.make(bare, bare.block_devices[0], LAYER)
    files = here.moves.files.lower_of(layered, names_of(layered))
    assert files == ["disk0"]
    line = socket.socketpair()
    with ThreadPoolExecutor(1) as receiver, line[0], line[1]:
        received = receiver.submit(there.disks.moves.files.receive, layered, files, line[1])
        here.moves.files.send(layered, files, line[0], 0, ignore)
        received.result()
    there.disks.moves.files.take(layered)


def test_the_agent_there_reaches_the_server_afterwards(
    leaving: tuple[Instance, list[DriverQueue]], disks: NodeDisks, there: Host
) -> None:
    instance, _ = leaving
    mirrors = begin(disks, there, instance)
    await_all(mirrors)
    mirrors.finish()
    moves_of(there.disks, instance).shut()
    with closing(there.servers.connect(instance.uuid, "disk0")) as nbd, socket.socket(fileno=nbd.fd) as connection:
        assert connection.recv(8) == b"NBDMAGIC"
        nbd._closed = True
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", PORTS[0]), 5)


@pytest.mark.parametrize("key", ["cd" * 32, None])
def test_who_does_not_know_the_key_gets_nothing_in(
    leaving: tuple[Instance, list[DriverQueue]], disks: NodeDisks, there: Host, key: str | None
) -> None:
    instance, queues = leaving
    with pytest.raises((MonitorError, StorageError)):
        begin(disks, there, instance, key)
    for _ in range(2):
        moves_of(disks, instance).mirrors.abandon()
    write(queues[0], 8 * MIB, b"1")
    assert content(queues[0], 8 * MIB) == b"1" * SECTOR


def test_a_host_that_dies_meanwhile_does_not_hurt_the_guest(
    leaving: tuple[Instance, list[DriverQueue]], disks: NodeDisks, there: Host
) -> None:
    instance, queues = leaving
    mirrors = begin(disks, there, instance)
    await_all(mirrors)
    there.servers.stop(instance.uuid)
    write(queues[0], 8 * MIB, b"1")
    with pytest.raises(MonitorError, match="disk0 could not be copied"):
        until(lambda: not mirrors.jobs())
    mirrors.abandon()
    assert mirrors.jobs() == []
    assert content(queues[0], 8 * MIB) == b"1" * SECTOR


def test_a_port_that_somebody_else_has_is_left_to_him(leaving: tuple[Instance, list[DriverQueue]], there: Host) -> None:
    instance, _ = leaving
    with socket.create_server(("127.0.0.1", PORTS[0])):
        served = moves_of(there.disks, instance)
        assert served.let_in(["disk0"], "127.0.0.1", PORTS, KEY) == PORTS[1]
        with pytest.raises(StorageError, match="no port from 51300 to 51300"):
            served.let_in(["disk0"], "127.0.0.1", PORTS[:1], KEY)


def test_the_agent_there_is_killed_at_any_moment_of_letting_it_in(
    leaving: tuple[Instance, list[DriverQueue]], disks: NodeDisks, there: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one lets it in by another door, or clears it all away."""
    instance, _ = leaving

    def let_in() -> None:
        moves_of(there.disks, instance).let_in(names_of(instance), "127.0.0.1", PORTS, KEY)

    for _ in _until_done(let_in, monkeypatch):
        there.end()
        there.begin()
    mirrors = begin(disks, there, instance)
    await_all(mirrors)
    mirrors.finish()
    shut: Callable[[], None] = lambda: moves_of(there.disks, instance).shut()  # noqa: E731
    for _ in _until_done(shut, monkeypatch):
        there.end()
        there.begin()
    assert there.servers.disks(instance.uuid) == {"disk0", "disk1"}


def test_the_agent_here_is_killed_at_any_moment_and_the_next_one_takes_the_guest_back(
    leaving: tuple[Instance, list[DriverQueue]],
    agent: Agent,
    disks: NodeDisks,
    there: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance, queues = leaving
    lives = [disks]
    for _ in _until_done(lambda: _begin_and_finish(lives[-1], there, instance), monkeypatch):
        lives.append(agent())
        mirrors = moves_of(lives[-1], instance).mirrors
        mirrors.abandon()
        assert mirrors.jobs() == []
        write(queues[0], 8 * MIB, bytes([len(lives) % 250 + 1]))
    assert len(lives) > 1


def _begin_and_finish(here: NodeDisks, there: Host, instance: Instance) -> None:
    mirrors = begin(here, there, instance)
    await_all(mirrors)
    mirrors.finish()


def _until_done(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """After each death."""
    return takewhile(partial(dies, monkeypatch, act=act), moments())
