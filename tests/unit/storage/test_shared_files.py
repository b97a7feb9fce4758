"""Volumes in files that two hosts share, and the guests of which move between them."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from compute_agent.errors import DiskInUse, MigrationRefused, StorageError
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from compute_agent.instance.machine import HypervisorName, Machine
from compute_agent.instance.migration import HostFacts, Mover
from compute_agent.instance.model import Instance
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings

from .making import UUID, ignore, make_instance, number, open_disks

PROOF = "aaaaaaaa-1111-4222-8333-444444444444"
LAYER = "bbbbbbbb-1111-4222-8333-444444444444"
FACTS = HostFacts(hypervisor_version="7.2", accelerator="kvm", cpu_vendor="AMD", cpu_flags=[])
HERE, THERE = f"node1, instance {UUID}", f"node2, instance {UUID}"


class Scene:
    """Two hosts, with one volume that an instance of the first one has."""

    def __init__(self, settings: StorageSettings, directory: Path) -> None:
        self.shared, self.mount = directory / "shared", directory / "mount"
        self.shared.mkdir()
        self.mount.symlink_to(self.shared)
        (self.shared / "volume").write_bytes(bytes(1 << 20))
        self.here, self.there = (self._host(settings, directory, name) for name in ("node1", "node2"))
        self.instance = make_instance(self.volume())

    def _host(self, settings: StorageSettings, directory: Path, name: str) -> NodeDisks:
        places = {"disk_dir": directory / name / "disks", "image_dir": directory / name / "images"}
        return open_disks(replace(settings, host=name, volume_dirs=(self.mount,), **places))

    def volume(self, access_mode: Literal["rw", "ro"] = "rw") -> BlockDevice:
        data = FileVolume(path=str(self.mount / "volume"), format="raw", access_mode=access_mode)
        connection = FileConnection(data=data)
        return BlockDevice(source_type="volume", device_name="disk0", volume_id=UUID, connection_info=connection)

    def mover(self, *, runs: bool = True, hypervisor: HypervisorName = "qemu") -> Mover:
        machine = Machine(hypervisor=hypervisor, type="q35", accelerator="kvm", cpu="host", slots={})
        return Mover(
            instance=self.instance,
            machine=machine,
            epoch=0,
            source="node1",
            address="127.0.0.1",
            mirrored=[],
            proof=PROOF,
            facts=FACTS if runs else None,
        )

    def ask(self, *, runs: bool = True, hypervisor: HypervisorName = "qemu") -> None:
        """The second host, as the first one does."""
        self.here.moves.leave_proof(self.instance, PROOF, runs=runs)
        try:
            self.there.moves.require_shared(self.mover(runs=runs, hypervisor=hypervisor))
        finally:
            self.here.moves.take_proof_back(self.instance, PROOF)

    def mount_another(self) -> None:
        """What follows is done on a host that has all the same names on its own disk."""
        own = self.shared.with_name("own")
        shutil.copytree(self.shared, own)
        self.mount.unlink()
        self.mount.symlink_to(own)

    def names(self) -> set[str]:
        """Of all that is where the volume is."""
        return {entry.name for entry in self.shared.iterdir()}

    def noted(self) -> str | None:
        note = self.shared / "volume.owner"
        return note.read_text().strip() if note.exists() else None

    @contextmanager
    def open_for_writing(self) -> Iterator[None]:
        """Somebody's QEMU holds its lock."""
        fd = os.open(self.shared / "volume", os.O_RDWR)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("@hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0))
            yield
        finally:
            os.close(fd)


@pytest.fixture
def scene(settings: StorageSettings, tmp_path: Path) -> Scene:
    return Scene(settings, tmp_path)


def connect(disks: NodeDisks, instance: Instance) -> None:
    for disk in disks.connect(instance, vhost_user=False):
        disk.close()


def start(disks: NodeDisks, instance: Instance) -> None:
    disks.create(instance, ignore)
    connect(disks, instance)


def await_guest(disks: NodeDisks, instance: Instance) -> None:
    """As a destination does."""
    disks.delete(instance.uuid)
    disks.moves.disown(instance.uuid)
    start(disks, instance)


@pytest.mark.parametrize("runs", [True, False])
def test_a_volume_that_both_hosts_share_is_not_copied(scene: Scene, *, runs: bool) -> None:
    start(scene.here, scene.instance)
    assert scene.here.moves.mirrored(scene.instance) == []
    with scene.open_for_writing():
        scene.ask(runs=runs)
    assert scene.names() == {"volume", "volume.owner"}


def test_two_hosts_that_take_a_volume_at_once_leave_a_whole_note(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace_after_the_other(part: Path, note: Path) -> None:
        monkeypatch.setattr(Path, "replace", replace_at_once)
        start(scene.there, scene.instance)
        assert scene.noted() == THERE
        part.replace(note)

    replace_at_once = Path.replace
    monkeypatch.setattr(Path, "replace", replace_after_the_other)
    start(scene.here, scene.instance)
    assert scene.noted() == HERE
    assert scene.names() == {"volume", "volume.owner"}


def test_a_volume_takes_no_space_of_the_host(scene: Scene) -> None:
    start(scene.here, scene.instance)
    assert scene.here.capacity()["qcow2"]["allocated"] < (scene.shared / "volume").stat().st_size


def test_whose_volume_has_gone_with_its_directory_can_go(scene: Scene) -> None:
    start(scene.here, scene.instance)
    shutil.rmtree(scene.shared)
    scene.here.delete(UUID)
    assert scene.here.inspect() == set()


@pytest.mark.parametrize("runs", [True, False])
def test_a_copy_of_the_volume_is_not_the_same_file(scene: Scene, *, runs: bool) -> None:
    start(scene.here, scene.instance)
    scene.mount_another()
    (scene.shared / f"volume.moving.{PROOF}").touch()
    reason = "is not the file that node1 has: it is not on a file system that both share$"
    with pytest.raises(MigrationRefused, match=rf"^disk0: .*/own/volume {reason}"):
        scene.there.moves.require_shared(scene.mover(runs=runs))


def test_a_volume_that_is_not_there_is_refused(scene: Scene, tmp_path: Path) -> None:
    (scene.shared / "volume").unlink()
    with pytest.raises(MigrationRefused, match=r"^disk0: .*volume is missing here$"):
        scene.there.moves.require_shared(scene.mover())
    scene.mount.unlink()
    scene.mount.symlink_to(tmp_path / "node1")
    elsewhere = msgspec.structs.replace(scene.volume().connection_info.data, path="/etc/passwd")  # type: ignore[union-attr]
    device = msgspec.structs.replace(scene.volume(), connection_info=FileConnection(data=elsewhere))
    scene.instance = make_instance(device)
    with pytest.raises(MigrationRefused, match=r"^disk0: /etc/passwd is not where volumes may be here$"):
        scene.there.moves.require_shared(scene.mover())


@pytest.mark.parametrize("runs", [True, False])
def test_a_volume_that_somebody_else_writes_to_is_refused(scene: Scene, *, runs: bool) -> None:
    start(scene.here, number(scene.instance, 7))
    with (
        scene.open_for_writing(),
        pytest.raises(MigrationRefused, match=r"^disk0: .*in use by node1, instance 00000007"),
    ):
        scene.ask(runs=runs)
    assert scene.names() == {"volume", "volume.owner"}


def test_a_block_server_could_not_open_it_in_time(scene: Scene) -> None:
    start(scene.here, scene.instance)
    with pytest.raises(MigrationRefused, match=r"^disk0: a volume in a file, of a machine of our own \(vmm\): "):
        scene.ask(hypervisor="vmm")
    scene.ask(hypervisor="vmm", runs=False)
    scene.instance = make_instance(scene.volume("ro"))
    scene.ask(hypervisor="vmm")


def test_what_stays_in_a_hosts_memory_cannot_be_read_on_another(scene: Scene) -> None:
    scene.instance = make_instance(msgspec.structs.replace(scene.volume(), cache_mode="unsafe"))
    with pytest.raises(MigrationRefused, match=r"^disk0: .* cache mode unsafe"):
        scene.ask()
    scene.ask(runs=False)


def test_the_note_says_whose_it_is_at_each_moment(scene: Scene) -> None:
    """Everything twice: an agent may have died after it."""
    start(scene.here, scene.instance)
    for _ in range(2):
        await_guest(scene.there, scene.instance)
    assert scene.noted() == HERE
    scene.here.moves.disown(UUID)
    for _ in range(2):
        scene.there.moves.take_over(scene.instance)
        assert scene.noted() == THERE
    for _ in range(2):
        scene.here.disconnect(UUID)
        scene.here.delete(UUID)
    assert scene.noted() == THERE
    with scene.open_for_writing():
        connect(scene.there, scene.instance)
    scene.there.disconnect(UUID)
    assert scene.names() == {"volume"}


def test_the_host_that_it_leaves_takes_nothing_along_before_the_other_has_it(scene: Scene) -> None:
    start(scene.here, scene.instance)
    await_guest(scene.there, scene.instance)
    scene.here.moves.disown(UUID)
    scene.here.delete(UUID)
    assert scene.noted() == HERE, "that it moves can be seen"
    scene.there.moves.take_over(scene.instance)
    assert scene.noted() == THERE


def test_a_guest_that_does_not_come_leaves_the_volume_alone(scene: Scene) -> None:
    start(scene.here, scene.instance)
    await_guest(scene.there, scene.instance)
    scene.there.disconnect(UUID)
    scene.there.delete(UUID)
    assert scene.noted() == HERE
    assert scene.names() == {"volume", "volume.owner"}


def test_it_comes_back_after_a_while(scene: Scene) -> None:
    start(scene.here, scene.instance)
    for source, destination in ((scene.here, scene.there), (scene.there, scene.here)) * 2:
        await_guest(destination, scene.instance)
        source.moves.disown(UUID)
        destination.moves.take_over(scene.instance)
        source.disconnect(UUID)
        source.delete(UUID)
    assert scene.noted() == HERE


def test_a_process_of_the_instance_may_hold_the_lock_already(scene: Scene) -> None:
    start(scene.here, scene.instance)
    await_guest(scene.there, scene.instance)
    with scene.open_for_writing():
        scene.there.moves.take_over(scene.instance)
    assert scene.noted() == THERE


def test_another_instance_has_taken_it_meanwhile(scene: Scene) -> None:
    await_guest(scene.there, scene.instance)
    start(scene.here, number(scene.instance, 7))
    with scene.open_for_writing(), pytest.raises(DiskInUse, match="in use by node1, instance 00000007"):
        scene.there.moves.take_over(scene.instance)
    scene.there.moves.take_over(scene.instance)
    assert scene.noted() == THERE


def test_layers_of_a_stopped_instance_go_with_it(scene: Scene) -> None:
    start(scene.here, scene.instance)
    (scene.shared / f"volume.{LAYER}").touch()
    scene.instance = make_instance(msgspec.structs.replace(scene.volume(), layers=(LAYER,)))
    scene.here.disconnect(UUID)
    assert scene.noted() == HERE, "layers are void when somebody writes to what they stand on"
    scene.ask(runs=False)
    await_guest(scene.there, scene.instance)
    scene.there.moves.take_over(scene.instance)
    scene.there.disconnect(UUID)
    scene.here.moves.disown(UUID)
    scene.here.delete(UUID)
    assert scene.noted() == THERE
    connect(scene.there, scene.instance)
    assert scene.names() == {"volume", "volume.owner", f"volume.{LAYER}"}


def test_nothing_can_be_written_beside_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StorageError, match="Read-only file system"):
        scene.here.moves.leave_proof(scene.instance, PROOF, runs=True)


def test_a_volume_in_a_file_is_not_taken_from_a_dead_host(scene: Scene) -> None:
    with pytest.raises(MigrationRefused, match=r"^disk0: it exists on node1 only$"):
        scene.there.moves.check_evacuation(scene.instance, "node1", 1)
