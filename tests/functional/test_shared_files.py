"""Guests whose disks are files that both hosts have go to another QEMU and back, and write on both sides."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from compute_agent.errors import MonitorError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.storage.file_locks import has_writer
from compute_agent.virt.contract import Guest, StartRequest
from compute_agent.virt.migration import Pace
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from tests.functional.containers import make_encrypted
from tests.functional.moving_guest import content, make_disk
from tests.functional.test_post_copy import FAST, KEY, SLOW, Link, until_halfway
from tests.processes.virt.conftest import (
    UUID,
    MakeHypervisor,
    directory,
    end_all,
    exits,
    hypervisor,
    make_hypervisor,
    settings,
    tiny_request,
)
from tests.unit.storage.making import qemu_img
from tests.unit.virt.waiting import say, start_up, until

__all__ = ["directory", "exits", "hypervisor", "make_hypervisor", "settings"]

Kind = Callable[[Disk, Path], "Shared"]
MakeScene = Callable[[Kind], "Scene"]
PROMPT = Pace(downtime=1.0)


@dataclass(frozen=True)
class Shared:
    """A disk in a file that both hosts have."""

    disk: Disk
    image: tuple[str, ...]
    """What qemu-img has to be told to read it."""

    @property
    def path(self) -> Path:
        assert isinstance(self.disk.source, FileSource)
        return self.disk.source.path

    def content(self, directory: Path) -> bytes:
        """As another program finds it when nobody has it open."""
        qemu_img("convert", "-O", "raw", *self.image, str(directory / "content.raw"))
        return (directory / "content.raw").read_bytes()


def raw(disk: Disk, directory: Path) -> Shared:
    path = make_disk(directory / "shared.raw")
    return Shared(replace(disk, source=FileSource(path=path, format="raw")), ("-f", "raw", str(path)))


def qcow2(disk: Disk, directory: Path) -> Shared:
    path = _converted(make_disk(directory / "first.raw"), directory / "shared.qcow2")
    return Shared(replace(disk, source=FileSource(path=path, format="qcow2")), ("-f", "qcow2", str(path)))


def layered(disk: Disk, directory: Path) -> Shared:
    below = FileSource(path=_converted(make_disk(directory / "first.raw"), directory / "shared.qcow2"), format="qcow2")
    path = directory / f"shared.qcow2.{UUID}"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(below.path), str(path))
    source = FileSource(path=path, format="qcow2", backing=below, layer=UUID)
    return Shared(replace(disk, source=source), ("-f", "qcow2", str(path)))


def encrypted_qcow2(disk: Disk, directory: Path) -> Shared:
    return _encrypted(disk, directory, "qcow2", "driver=qcow2,encrypt.key-secret=s,file.filename={}")


def encrypted_raw(disk: Disk, directory: Path) -> Shared:
    return _encrypted(disk, directory, "luks", "driver=luks,key-secret=s,file.filename={}")


def _encrypted(disk: Disk, directory: Path, made: str, described: str) -> Shared:
    key, first = directory / "key", make_disk(directory / "first.raw")
    key.write_text("secret")
    path = make_encrypted(directory / f"shared.{made}", made, key, size=str(first.stat().st_size))
    image = ("--object", f"secret,id=s,file={key}", "--image-opts", described.format(path))
    content = f"driver=raw,file.filename={first}"
    qemu_img("convert", "-n", *image[:2], "--image-opts", content, "--target-image-opts", image[-1])
    format = "raw" if made == "luks" else "qcow2"
    return Shared(replace(disk, source=FileSource(path=path, format=format), passphrase=b"secret"), image)


def _converted(raw: Path, path: Path) -> Path:
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(path))
    return path


@dataclass(frozen=True)
class Host:
    """One of two, which both have the file."""

    hypervisor: QemuHypervisor
    request: StartRequest

    def wait_for_it(self) -> Guest:
        return self.hypervisor.start(replace(self.request, is_incoming=True))

    def write(self) -> None:
        say(self.hypervisor, UUID, b"x")

    def said(self) -> bytes:
        return self.hypervisor.console_output(UUID, 100)


@dataclass(frozen=True)
class Scene:
    """A guest that runs on the first host."""

    here: Host
    there: Host
    shared: Shared
    guest: Guest

    def sides(self) -> Iterator[tuple[str, Host]]:
        yield "here", self.here
        yield "there", self.there

    def assert_written(self, writes: int, directory: Path) -> None:
        assert self.shared.content(directory) == content(writes)
        assert b"e" not in self.here.said() + self.there.said()


def with_own_disk(host: Host, path: Path) -> Host:
    """The guest has another disk, which each host has a file of its own for; only the first one has something in it."""
    qemu_img("create", "-q", "-f", "qcow2", str(path), "1M")
    if path.stem == "here":
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", "write -P 9 128k 64k", str(path)], check=True, capture_output=True
        )
    request = host.request
    own = replace(request.disks[0], name="disk1", source=FileSource(path=path, format="qcow2"), boot_index=None)
    device = BlockDevice(source_type="blank", size_gb=1, device_name="disk1")
    machine = host.hypervisor.add_disk(request.machine, device)
    return replace(host, request=replace(request, machine=machine, disks=[*request.disks, own]))


@pytest.fixture(params=[raw, qcow2, layered, encrypted_qcow2, encrypted_raw])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def make_scene(make_hypervisor: MakeHypervisor, settings: VirtSettings, directory: Path) -> Iterator[MakeScene]:
    other = replace(
        settings, state_dir=settings.state_dir.with_name("state2"), run_dir=settings.run_dir.with_name("run2")
    )
    one, another = make_hypervisor(), QemuHypervisor(other, lambda exited: None)

    def make(kind: Kind) -> Scene:
        request = tiny_request(one, directory)
        shared = kind(request.disks[0], directory)
        request = replace(request, disks=[shared.disk])
        return Scene(Host(one, request), Host(another, request), shared, start_up(one, request))

    yield make
    end_all(another)


def begin(source: Guest, destination: Guest, disks: Mapping[str, NbdSource] | None = None) -> None:
    with _connected() as (ours, theirs):
        destination.incoming.let_memory_in(theirs.fileno())
        source.outgoing.begin(ours.fileno(), disks or {}, PROMPT, KEY)


@contextmanager
def _connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        yield ours, theirs


def carry(source: Guest, destination: Guest) -> None:
    """All of it is there, and it runs nowhere."""
    until(lambda: source.outgoing.advance(1.0).stage == "complete")
    until(destination.incoming.is_complete)


def go(source: Guest, destination: Guest) -> None:
    """As two agents do."""
    destination.incoming.use_key(KEY)
    begin(source, destination)
    carry(source, destination)
    destination.incoming.shut_disks()
    destination.resume()
    source.kill()


def test_it_writes_here_and_there_and_here_again(make_scene: MakeScene, directory: Path, kind: Kind) -> None:
    scene = make_scene(kind)
    scene.here.write()
    there = scene.there.wait_for_it()
    go(scene.guest, there)
    scene.there.write()
    back = scene.here.wait_for_it()
    go(there, back)
    scene.here.write()
    back.kill()
    scene.assert_written(3, directory)


def test_one_that_is_not_wanted_there_goes_on_here(make_scene: MakeScene, directory: Path, kind: Kind) -> None:
    scene = make_scene(kind)
    there = scene.there.wait_for_it()
    there.incoming.use_key(KEY)
    begin(scene.guest, there)
    carry(scene.guest, there)
    assert not has_writer(scene.shared.path), "who lets it run next has the file"
    scene.guest.outgoing.cancel()
    scene.guest.resume()
    there.kill()
    scene.here.write()
    scene.guest.kill()
    scene.assert_written(1, directory)


def test_an_encrypted_disk_that_came_later_does_not_keep_it_from_going_on_here(
    make_scene: MakeScene, directory: Path
) -> None:
    scene = make_scene(raw)
    more = with_own_disk(scene.here, directory / "here.qcow2")
    later = encrypted_qcow2(more.request.disks[1], directory).disk
    scene.guest.attach_disk(later, more.request.machine)
    request = replace(more.request, disks=[*scene.here.request.disks, later])
    there = replace(scene.there, request=request).wait_for_it()
    there.incoming.use_key(KEY)
    begin(scene.guest, there)
    carry(scene.guest, there)
    there.kill()
    scene.guest.outgoing.cancel()
    scene.guest.resume()
    scene.here.write()
    scene.guest.kill()
    scene.assert_written(1, directory)


@pytest.mark.parametrize("goes_on", ["here", "there"])
def test_before_all_of_its_memory_is_there_the_other_process_has_the_file(
    make_scene: MakeScene, directory: Path, goes_on: str
) -> None:
    scene = make_scene(qcow2)
    there, link = scene.there.wait_for_it(), Link()
    there.incoming.use_key(KEY)
    there.incoming.let_memory_in(link.there.fileno())
    scene.guest.outgoing.begin(link.here.fileno(), {}, SLOW, KEY, post_copy=True)
    link.handed_over()
    until_halfway(scene.guest, there)
    if goes_on == "there":
        there.resume()
        scene.guest.outgoing.set_pace(FAST)
        scene.there.write()
    else:
        scene.guest.outgoing.cancel()
        with pytest.raises(MonitorError, match='Failed to get "write" lock'):
            scene.guest.resume()
        there.kill()
        scene.guest.resume()
        scene.here.write()
    scene.guest.kill()
    there.kill()
    scene.assert_written(1, directory)


def test_another_disk_is_copied_meanwhile(make_scene: MakeScene, directory: Path) -> None:
    scene = make_scene(qcow2)
    scene.guest.kill()
    here, there = (with_own_disk(host, directory / f"{side}.qcow2") for side, host in scene.sides())
    guest = start_up(here.hypervisor, here.request)
    here.write()
    waiting = there.wait_for_it()
    waiting.incoming.use_key(KEY)
    with socket.create_server(("127.0.0.1", 0)) as disks:
        waiting.incoming.let_disks_in(disks.fileno(), ["disk1"])
        with closing(socket.create_connection(disks.getsockname())) as disk:
            begin(guest, waiting, {"disk1": NbdSource(export="disk1", fd=disk.fileno())})
    carry(guest, waiting)
    waiting.incoming.shut_disks()
    waiting.resume()
    guest.kill()
    there.write()
    waiting.kill()
    scene.assert_written(2, directory)
    assert "identical" in qemu_img("compare", str(directory / "here.qcow2"), str(directory / "there.qcow2"))
