"""Disks of a guest that runs: they come and go, grow, are limited, fill up, lose their server."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from compute_agent.errors import DetachRefused, HostError, InvalidMessage, MonitorError
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import DiskFailure
from compute_agent.virt.qemu.block_layer import BlockLayer
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from sandbox.commands import run
from tests.functional.containers import make_encrypted
from tests.functional.guests import until
from tests.functional.linux_guest import LinuxGuest, an_image

MIB = 1024**2
PASSPHRASE = b"open sesame"
NEWS_WITHIN = 60.0
"""Seconds."""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="d") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def failures() -> Queue[DiskFailure]:
    return Queue()


@pytest.fixture(scope="module")
def settings(place: Path) -> VirtSettings:
    return VirtSettings(
        state_dir=place / "state", run_dir=place / "run", accelerator="tcg", iothreads=2, detach_timeout=3.0
    )


@pytest.fixture(scope="module")
def guest(settings: VirtSettings, failures: Queue[DiskFailure], place: Path) -> Iterator[LinuxGuest]:
    """One with a disk of its own, for all tests: what they attach they detach."""
    hypervisor = QemuHypervisor(settings, lambda exit: None, failures.put)
    root = Disk(name="disk0", source=an_image(place / "root.qcow2"), serial="root")
    guest = LinuxGuest(hypervisor, [root])
    yield guest
    guest.end()
    guest.hypervisor.close()


def reborn(guest: LinuxGuest, settings: VirtSettings, failures: Queue[DiskFailure]) -> None:
    """The agent is a new one; what it has is what it finds."""
    guest.hypervisor.close()
    guest.hypervisor = QemuHypervisor(settings, lambda exit: None, failures.put)


def content(source: FileSource, kilobytes: int) -> str:
    """SHA-256 of the beginning of a disk, from outside."""
    target = source.path.with_suffix(".out")
    run("qemu-img", "convert", "-f", source.format, "-O", "raw", source.path, target)
    try:
        with target.open("rb") as file:
            return hashlib.sha256(file.read(kilobytes * 1024)).hexdigest()
    finally:
        target.unlink()


@pytest.mark.parametrize("bus", ["virtio", "scsi"])
def test_disk_comes_and_goes(
    bus: str, guest: LinuxGuest, place: Path, settings: VirtSettings, failures: Queue[DiskFailure]
) -> None:
    source = an_image(place / f"{bus}.qcow2")
    disk = Disk(name="disk7", source=source, serial=f"{bus}-one", bus=bus)  # type: ignore[arg-type]
    before = guest.descriptors()
    guest.attach(disk)
    name = guest.await_disk(disk.serial)
    if bus == "scsi":
        assert guest.run(f"readlink /sys/block/{name}/device").endswith(":0:0:7"), "its address comes from its name"
    written = guest.fill(name, 512)
    assert guest.guest.diagnostics()["disks"]["disk7"]["write_bytes"] >= 512 * 1024  # type: ignore[index]
    reborn(guest, settings, failures)
    assert guest.guest.has_device(disk.name)
    guest.detach(disk.name)
    guest.detach(disk.name)
    until(lambda: not guest.disk(disk.serial))
    assert content(source, 512) == written
    assert guest.descriptors() == before
    guest.attach(disk)
    assert guest.checksum(guest.await_disk(disk.serial), 512) == written
    guest.detach(disk.name)


def test_disks_share_a_scsi_controller_from_the_start(settings: VirtSettings, place: Path) -> None:
    hypervisor = QemuHypervisor(replace(settings, run_dir=place / "r2", state_dir=place / "s2"), lambda exit: None)
    disks = [
        Disk(name=f"disk{at}", source=an_image(place / f"s{at}.qcow2"), serial=f"scsi-{at}", bus="scsi")
        for at in (1, 4)
    ]
    guest = LinuxGuest(hypervisor, disks)
    try:
        addresses = [guest.run(f"readlink /sys/block/{guest.disk(d.serial)}/device").split("/")[-1] for d in disks]
        assert [address.rpartition(":")[2] for address in addresses] == ["1", "4"]
        assert guest.machine.slots == {"scsi0": 0}
    finally:
        guest.end()
        hypervisor.close()


def test_guest_that_does_not_let_go_keeps_its_disk(guest: LinuxGuest, place: Path) -> None:
    disk = Disk(name="disk8", source=an_image(place / "kept.qcow2"), serial="kept")
    guest.attach(disk)
    name = guest.await_disk("kept")
    guest.guest.pause()
    with pytest.raises(DetachRefused, match="within 3 s"):
        guest.detach("disk8")
    guest.guest.resume()
    guest.detach("disk8")
    until(lambda: not guest.disk("kept"))
    assert name not in guest.run("ls /sys/block")


def test_what_cannot_be_attached_leaves_nothing(guest: LinuxGuest, place: Path) -> None:
    before = guest.descriptors()
    missing = FileSource(path=place / "missing", format="qcow2")
    with pytest.raises(MonitorError, match="missing cannot be opened"):
        guest.attach(Disk(name="disk9", source=missing))
    text = place / "text"
    text.write_text("this is no qcow2")
    with pytest.raises(MonitorError, match="blockdev-add"):
        guest.attach(Disk(name="disk9", source=FileSource(path=text, format="qcow2")))
    good = an_image(place / "good.qcow2")
    occupied = guest.hypervisor.add_disk(guest.machine, _device(9))
    occupied = msgspec.structs.replace(occupied, slots=occupied.slots | {"disk9": occupied.slots["disk0"]})
    with pytest.raises(MonitorError, match="device_add"):
        guest.guest.attach_disk(Disk(name="disk9", source=good), occupied)
    with pytest.raises(HostError, match="io_uring"):
        guest.attach(Disk(name="disk9", source=good, aio="io_uring"))
    assert guest.descriptors() == before
    guest.attach(Disk(name="disk9", source=good, serial="good"))
    guest.await_disk("good")
    guest.detach("disk9")


def test_attach_goes_on_where_a_killed_agent_stopped(guest: LinuxGuest, place: Path) -> None:
    """It had opened the disk, and the guest had not got it yet."""
    disk = Disk(name="disk9", source=an_image(place / "half.qcow2"), serial="half", passphrase=None)
    before = guest.descriptors()
    half = BlockLayer(partial(guest.guest._monitor.execute, deadline=10))  # type: ignore[attr-defined]
    half.add(disk, "disk9")
    guest.attach(disk)
    guest.await_disk("half")
    guest.detach("disk9")
    half.add(disk, "disk9")
    guest.detach("disk9")
    assert guest.descriptors() == before


def test_machine_has_an_end(guest: LinuxGuest) -> None:
    machine = guest.machine
    for number in range(10, 10 + machine.root_ports - len(machine.slots)):
        machine = guest.hypervisor.add_disk(machine, _device(number))
    with pytest.raises(InvalidMessage, match="root ports"):
        guest.hypervisor.add_disk(machine, _device(90))


def _device(number: int) -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1, device_name=f"disk{number}")


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_luks_container_is_opened_with_its_passphrase(kind: str, guest: LinuxGuest, place: Path) -> None:
    disk = Disk(name="disk5", source=a_container(kind, place / f"{kind}.secret"), serial=kind, passphrase=PASSPHRASE)
    with pytest.raises(MonitorError, match="Invalid password"):
        guest.attach(replace(disk, passphrase=b"wrong"))
    guest.attach(disk)
    assert not [name for name in guest.descriptors() if "passphrase" in name]
    guest.run(f"yes in clear | dd of=/dev/{guest.await_disk(kind)} bs=64k count=8 iflag=fullblock conv=fsync")
    guest.detach("disk5")
    assert b"in clear" not in (place / f"{kind}.secret").read_bytes()
    guest.attach(disk)
    assert guest.run(f"dd if=/dev/{guest.await_disk(kind)} bs=8 count=1 2>/dev/null") == "in clear"
    guest.detach("disk5")


def test_guest_starts_with_a_luks_container(settings: VirtSettings, place: Path) -> None:
    hypervisor = QemuHypervisor(replace(settings, run_dir=place / "r3", state_dir=place / "s3"), lambda exit: None)
    source = a_container("raw", place / "start.secret")
    guest = LinuxGuest(hypervisor, [Disk(name="disk0", source=source, serial="secret", passphrase=PASSPHRASE)])
    try:
        assert guest.sectors(guest.disk("secret")) == 32 * MIB // 512
        assert PASSPHRASE not in Path(f"/proc/{guest.guest.pid}/cmdline").read_bytes()
    finally:
        guest.end()
        hypervisor.close()


def a_container(kind: str, path: Path) -> FileSource:
    """A new encrypted disk of 32 MiB."""
    secret = path.with_suffix(".key")
    secret.write_bytes(PASSPHRASE)
    make_encrypted(path, "luks" if kind == "raw" else kind, secret, size="32M")
    return FileSource(path=path, format=kind)  # type: ignore[arg-type]


def test_disk_grows_under_the_guest(guest: LinuxGuest, place: Path) -> None:
    source = an_image(place / "grow.qcow2", "32M")
    guest.attach(Disk(name="disk6", source=source, serial="grow"))
    name = guest.await_disk("grow")
    assert guest.sectors(name) == 32 * MIB // 512
    guest.guest.resize_disk("disk6", 48 * MIB)
    guest.guest.resize_disk("disk6", 48 * MIB)
    until(lambda: guest.sectors(name) == 48 * MIB // 512)
    with pytest.raises(MonitorError, match="not cut off"):
        guest.guest.resize_disk("disk6", 32 * MIB)
    guest.fill(name, 512, seek=40 * 1024)
    guest.detach("disk6")


def test_limits_hold_and_change_while_the_guest_runs(
    guest: LinuxGuest, place: Path, settings: VirtSettings, failures: Queue[DiskFailure]
) -> None:
    limited = DiskQos(total_bytes_sec=MIB)
    disk = Disk(name="disk11", source=an_image(place / "slow.raw", disk_format="raw"), serial="slow", qos=limited)
    guest.attach(replace(disk, detect_zeroes="unmap"))
    name = guest.await_disk("slow")
    assert 3.0 < seconds_to_read(guest, name, mebibytes=4) < 12.0
    reborn(guest, settings, failures)
    guest.guest.set_disk_qos("disk11", DiskQos(total_bytes_sec=MIB // 2, group_name="team"))
    assert 3.0 < seconds_to_read(guest, name, mebibytes=2) < 12.0
    guest.guest.set_disk_qos("disk11", None)
    assert seconds_to_read(guest, name, mebibytes=16) < 12.0
    guest.fill(name, 512)
    guest.detach("disk11")


def test_a_burst_is_over_when_it_is_used_up(guest: LinuxGuest, place: Path) -> None:
    burst = DiskQos(total_bytes_sec=MIB, total_bytes_sec_max=16 * MIB)
    image = an_image(place / "burst.raw", disk_format="raw")
    guest.attach(Disk(name="disk11", source=image, serial="burst", qos=burst))
    name = guest.await_disk("burst")
    assert seconds_to_read(guest, name, mebibytes=12) < 9.0
    assert seconds_to_read(guest, name, mebibytes=12) > 3.0
    guest.detach("disk11")


def test_a_group_shares_its_limit(guest: LinuxGuest, place: Path) -> None:
    shared, names = DiskQos(total_bytes_sec=MIB, group_name="shared"), []
    for number in (11, 12):
        image = an_image(place / f"shared{number}.raw", disk_format="raw")
        guest.attach(Disk(name=f"disk{number}", source=image, serial=f"shared{number}", qos=shared))
        names.append(guest.await_disk(f"shared{number}"))
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    began = time.monotonic()
    guest.run(" ".join(f"dd if=/dev/{name} of=/dev/null bs=64k count=32 &" for name in names) + " wait")
    assert time.monotonic() - began > 3.0, "2 MiB from each of them"
    for number in (11, 12):
        guest.detach(f"disk{number}")


def seconds_to_read(guest: LinuxGuest, disk: str, mebibytes: int) -> float:
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    began = time.monotonic()
    guest.run(f"dd if=/dev/{disk} of=/dev/null bs=64k count={mebibytes * 16}")
    return time.monotonic() - began


def test_full_disk_pauses_the_guest_and_loses_no_write(
    guest: LinuxGuest, place: Path, failures: Queue[DiskFailure]
) -> None:
    small = place / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small)
    try:
        source = an_image(small / "full.qcow2")
        guest.attach(Disk(name="disk12", source=source, serial="full"))
        name = guest.await_disk("full")
        guest.run("dd if=/dev/urandom of=/tmp/data bs=1k count=8192")
        expected = guest.run("sha256sum < /tmp/data").split()[0]
        guest.type(f"dd if=/tmp/data of=/dev/{name} bs=64k conv=fsync")
        failure = failures.get(timeout=NEWS_WITHIN)
        assert (failure.instance_uuid, failure.disk, failure.reason) == (guest.instance.uuid, "disk12", "no_space")
        assert guest.guest.status() is PowerState.PAUSED
        assert guest.guest.diagnostics()["state"] == "io-error"
        guest.guest.resume()
        assert failures.get(timeout=NEWS_WITHIN).reason == "no_space", "there is no room yet: news again"
        assert failures.empty(), "one pause is one piece of news"
        run("mount", "-o", "remount,size=64m", small)
        guest.guest.resume()
        guest.answer()
        assert guest.guest.status() is PowerState.RUNNING
        assert guest.checksum(name, 8192) == expected
        guest.detach("disk12")
        assert content(source, 8192) == expected
    finally:
        subprocess.run(["umount", small], check=True)


class BlockServer:
    """A qemu-nbd, as a stand-in for the node's own block server: one raw file, passed on to whoever connects."""

    def __init__(self, path: Path, place: Path) -> None:
        self._socket = place / "nbd.sock"
        self._socket.unlink(missing_ok=True)
        command = ["qemu-nbd", "--persistent", "-e", "4", "-f", "raw", "-x", "disk", "--discard=unmap"]
        self._process = subprocess.Popen([*command, "-k", self._socket, path])

    def connect(self) -> NbdSource:
        """A server that has just made its socket may not listen on it yet."""
        with socket.socket(socket.AF_UNIX) as connection:
            until(lambda: connection.connect_ex(str(self._socket)) == 0)
            return NbdSource(export="disk", fd=os.dup(connection.fileno()))

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.mark.parametrize("bus", ["virtio", "scsi"])
def test_block_server_is_replaced_under_the_guest(
    bus: str, guest: LinuxGuest, place: Path, failures: Queue[DiskFailure]
) -> None:
    image = an_image(place / f"{bus}.served", "32M", "raw").path
    server = BlockServer(image, place)
    disk = Disk(name="disk13", source=server.connect(), serial=f"{bus}-net", bus=bus)  # type: ignore[arg-type]
    guest.attach(disk)
    disk.close()
    name = guest.await_disk(disk.serial)
    first = guest.fill(name, 1024)

    server.kill()
    guest.run("dd if=/dev/urandom of=/tmp/data bs=1k count=1024")
    second = guest.run("sha256sum < /tmp/data").split()[0]
    guest.type(f"dd if=/tmp/data of=/dev/{name} bs=64k seek=64 conv=fsync")
    failure = failures.get(timeout=NEWS_WITHIN)
    assert (failure.disk, failure.reason) == ("disk13", "io_error")
    server = BlockServer(image, place)
    reconnect(guest, disk, server)
    guest.guest.resume()
    guest.answer()
    assert guest.checksum(name, 1024) == first
    assert guest.checksum(name, 1024, seek=4096) == second

    os.truncate(image, 48 * MIB)
    server.kill()
    server = BlockServer(image, place)
    reconnect(guest, disk, server)  # before the guest has noticed
    guest.guest.resize_disk("disk13", 48 * MIB)
    until(lambda: guest.sectors(name) == 48 * MIB // 512)
    guest.fill(name, 512, seek=40 * 1024)
    guest.detach("disk13")
    server.kill()
    assert failures.empty()


def reconnect(guest: LinuxGuest, disk: Disk, server: BlockServer) -> None:
    fresh = replace(disk, source=server.connect())
    guest.guest.reconnect_disk(fresh)
    fresh.close()


def test_connection_is_replaced_under_load(guest: LinuxGuest, place: Path, failures: Queue[DiskFailure]) -> None:
    server = BlockServer(an_image(place / "load.served", "32M", "raw").path, place)
    disk = Disk(name="disk14", source=server.connect(), serial="load", qos=DiskQos(total_iops_sec=2000))
    guest.attach(disk)
    disk.close()
    name = guest.await_disk("load")
    guest.run("dd if=/dev/urandom of=/tmp/data bs=1k count=16384")
    expected = guest.run("sha256sum < /tmp/data").split()[0]
    guest.type(f"for turn in 1 2 3; do dd if=/tmp/data of=/dev/{name} bs=16k conv=fsync; done")
    for _ in range(8):
        reconnect(guest, disk, server)
    guest.answer(180)
    assert guest.checksum(name, 16384) == expected
    guest.detach("disk14")
    server.kill()
    assert failures.empty()
