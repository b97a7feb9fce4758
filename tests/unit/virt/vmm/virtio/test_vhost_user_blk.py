"""Disks served by a real qemu-storage-daemon: what is written is in the image."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compute_agent.errors import DeviceError
from compute_agent.virt.kvm.pages import PAGE, PageSet
from compute_agent.virt.vmm.memory import HOLE, GuestRam
from compute_agent.virt.vmm.virtio import vhost_user
from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.device import VERSION_1
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.vhost_user_blk import VhostUserBlock
from compute_agent.virt.vmm.write_log import WriteLog
from tests.unit.virt.vmm.parts import Parts
from tests.unit.virt.vmm.virtio.driver import NEEDS_RESET, Driver
from tests.unit.virt.vmm.virtio.storage import (
    IO_ERROR,
    MIB,
    OK,
    SECTOR,
    StorageDaemon,
    finish,
    flush,
    image_has,
    make_image,
    read_sectors,
    write_sectors,
)

CAPACITY = 0
RAM, ROOM = 4 * MIB, 64 * 1024
MQ, READ_ONLY, EVENT_INDEX = 1 << 12, 1 << 5, 1 << 29

Serve = Callable[..., StorageDaemon]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "disk.qcow2")


@pytest.fixture
def serve(directory: Path, image: Path) -> Iterator[Serve]:
    daemons: list[StorageDaemon] = []

    def one_more(**options: object) -> StorageDaemon:
        daemons.append(StorageDaemon(directory, image, **options))  # type: ignore[arg-type]
        return daemons[-1]

    yield one_more
    for daemon in daemons:
        daemon.stop(signal.SIGKILL)


@pytest.fixture
def plug(parts: Parts) -> Iterator[Callable[[StorageDaemon], Driver]]:
    drivers: list[Driver] = []

    def plug(daemon: StorageDaemon) -> Driver:
        device = VhostUserBlock(daemon.connect(), parts.ram)
        drivers.append(Driver(parts, VirtioPci(device, parts.ram, parts.interrupts, parts.kvm)))
        return drivers[-1]

    yield plug
    for driver in drivers:
        driver.device.close()


Plug = Callable[[StorageDaemon], Driver]


def block(driver: Driver) -> VhostUserBlock:
    device = driver.device.agreement.device
    assert isinstance(device, VhostUserBlock)
    return device


def test_sectors_are_written_and_read(serve: Serve, plug: Plug, image: Path) -> None:
    daemon = serve()
    driver = plug(daemon)
    assert driver.configuration(CAPACITY, 8) == 16 * MIB // SECTOR
    (queue,) = driver.set_up()
    assert write_sectors(queue, 8, b"\x5a" * 4096) == OK
    assert write_sectors(queue, 100, b"\xa5" * SECTOR) == OK
    assert read_sectors(queue, 8, SECTOR) == (OK, b"\x5a" * SECTOR)
    assert read_sectors(queue, 0, SECTOR) == (OK, bytes(SECTOR))
    assert flush(queue) == OK
    daemon.stop()
    assert image_has(image, 0x5A, 4096, 4096)
    assert image_has(image, 0xA5, 100 * SECTOR, SECTOR)
    assert image_has(image, 0, 0, 4096)


def test_several_queues_and_fewer_interrupts(serve: Serve, plug: Plug) -> None:
    driver = plug(serve(queues=2))
    assert driver.offered() & (MQ | EVENT_INDEX) == MQ | EVENT_INDEX
    first, second = driver.set_up(VERSION_1 | MQ, queues=2)
    assert write_sectors(first, 1, b"1" * SECTOR) == OK
    assert read_sectors(second, 1, SECTOR) == (OK, b"1" * SECTOR)


def test_memory_above_the_hole(serve: Serve) -> None:
    with GuestRam(HOLE.start + 4 * MIB) as ram:
        parts = Parts(ram)
        device = VhostUserBlock(serve().connect(), ram)
        driver = Driver(parts, VirtioPci(device, ram, parts.interrupts, parts.kvm))
        (queue,) = driver.set_up(address=HOLE.stop + MIB)
        assert write_sectors(queue, 7, b"7" * SECTOR) == OK
        queue.buffers = HOLE.start - 0x10000
        assert read_sectors(queue, 7, SECTOR) == (OK, b"7" * SECTOR)
        driver.device.close()


def test_a_disk_that_may_only_be_read(serve: Serve, plug: Plug) -> None:
    driver = plug(serve(writable=False))
    assert driver.offered() & READ_ONLY
    (queue,) = driver.set_up(VERSION_1 | READ_ONLY)
    assert write_sectors(queue, 0, b"x" * SECTOR) == IO_ERROR


def test_what_is_beyond_the_end(serve: Serve, plug: Plug) -> None:
    (queue,) = plug(serve()).set_up()
    assert write_sectors(queue, 16 * MIB // SECTOR, b"x" * SECTOR) == IO_ERROR


def test_it_grows(serve: Serve, plug: Plug) -> None:
    daemon = serve()
    driver = plug(daemon)
    (queue,) = driver.set_up()
    assert write_sectors(queue, 20 * MIB // SECTOR, b"x" * SECTOR) == IO_ERROR
    daemon.ask("block_resize", **{"node-name": "disk", "size": 32 * MIB})
    block(driver).resize(32 * MIB)
    driver.device.agreement.change_configuration()
    assert driver.interrupted(1)
    assert driver.configuration(CAPACITY, 8) == 32 * MIB // SECTOR
    assert write_sectors(queue, 20 * MIB // SECTOR, b"x" * SECTOR) == OK


def test_a_driver_begins_again(serve: Serve, plug: Plug) -> None:
    driver = plug(serve())
    (queue,) = driver.set_up()
    assert write_sectors(queue, 3, b"3" * SECTOR) == OK
    (queue,) = driver.set_up(address=0x200000)
    assert driver.device.agreement.queues[0].next == 0
    assert read_sectors(queue, 3, SECTOR) == (OK, b"3" * SECTOR)


def test_pause_and_resume_go_on_with_the_next_request(serve: Serve, plug: Plug) -> None:
    driver = plug(serve())
    (queue,) = driver.set_up()
    for number in range(3):
        assert write_sectors(queue, number, bytes([number]) * SECTOR) == OK
    driver.device.agreement.pause()
    assert driver.device.agreement.queues[0].next == 3
    queue.add(struct.pack("<IIQ", 0, 0, 2), SECTOR, 1)
    queue.kick()
    driver.device.agreement.resume()
    assert queue.wait()[0][1] == SECTOR + 1
    assert read_sectors(queue, 1, SECTOR) == (OK, b"\x01" * SECTOR)


def test_suspended_and_resumed_at_another_server(serve: Serve, plug: Plug, image: Path) -> None:
    daemon = serve()
    driver = plug(daemon)
    (queue,) = driver.set_up()
    assert write_sectors(queue, 5, b"5" * SECTOR) == OK
    driver.device.agreement.pause()
    state, memory = driver.device.state(), driver.parts.ram.read(0, 4 * MIB)
    driver.device.close()
    daemon.stop()
    with GuestRam(4 * MIB) as ram:
        ram.write(0, memory)
        parts = Parts(ram)
        device = VhostUserBlock(serve().connect(), ram)
        again = Driver(parts, VirtioPci(device, ram, parts.interrupts, parts.kvm))
        again.device.restore(state)
        again.device.agreement.resume()
        queue.ram, queue.driver = ram, again
        assert read_sectors(queue, 5, SECTOR) == (OK, b"5" * SECTOR)
        again.device.close()


def test_a_server_that_dies_idle_is_replaced(serve: Serve, plug: Plug) -> None:
    first = serve()
    driver = plug(first)
    (queue,) = driver.set_up()
    assert write_sectors(queue, 9, b"9" * SECTOR) == OK
    assert flush(queue) == OK
    first.stop(signal.SIGKILL)
    driver.device.agreement.pause()
    assert driver.device.agreement.queues[0].next == 2
    block(driver).reconnect(serve().connect())
    driver.device.agreement.resume()
    assert read_sectors(queue, 9, SECTOR) == (OK, b"9" * SECTOR)


def test_what_a_dead_server_had_is_said(serve: Serve, plug: Plug) -> None:
    daemon = serve()
    driver = plug(daemon)
    (queue,) = driver.set_up()
    daemon.stop(signal.SIGKILL)
    queue.add(struct.pack("<IIQ", 0, 0, 2), SECTOR, 1)
    with pytest.raises(DeviceError, match=r"it had 1 requests of queue 0"):
        driver.device.agreement.pause()
    assert block(driver).fileno() == -1
    driver.write(Register.STATUS, 1, 0)
    driver.agree()
    driver.set_queue(0, 0x100000)
    assert driver.go() & NEEDS_RESET


def test_a_server_that_can_do_less_is_not_taken(serve: Serve, plug: Plug, directory: Path, tmp_path: Path) -> None:
    driver = plug(serve(queues=2))
    other = StorageDaemon(directory, make_image(tmp_path / "other.qcow2"))
    with pytest.raises(DeviceError, match="can do less"):
        block(driver).reconnect(other.connect())
    other.stop()
    first, _ = driver.set_up(VERSION_1 | MQ, queues=2)
    assert flush(first) == OK


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "hung up at GET_FEATURES"),
        (struct.pack("<IIIQ", 1, 5, 8, 0), "speaks too little"),
        (struct.pack("<IIIQ", 1, 1, 8, 1 << 30), "with something else"),
        (struct.pack("<IIIQ", 2, 5, 8, 1 << 30), "with something else"),
        (struct.pack("<IIII", 1, 5, 4, 0), "does not understand GET_FEATURES"),
        (struct.pack("<III", 1, 5, 0xFFFFFFFF), "with something else"),
    ],
)
def test_nonsense_from_a_server_is_refused(answer: bytes, complaint: str) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(answer)
    theirs.shutdown(socket.SHUT_WR)
    with GuestRam(MIB) as ram, theirs, pytest.raises(DeviceError, match=complaint):
        VhostUserBlock(ours, ram)


def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vhost_user, "ANSWER_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    with GuestRam(MIB) as ram, theirs, pytest.raises(DeviceError, match="does not answer GET_FEATURES: timed out"):
        VhostUserBlock(ours, ram)
    assert ours.fileno() == -1


def logged(log: WriteLog) -> set[int]:
    """The pages in it, which are taken out."""
    pages = PageSet(RAM // PAGE)
    pages.take_from(log.part(0), 0, RAM // PAGE)
    return {page for run in pages.runs() for page in run}


def test_what_the_server_writes_is_logged_as_long_as_a_log_is_wanted(serve: Serve, plug: Plug, parts: Parts) -> None:
    driver, log = plug(serve()), WriteLog(RAM)
    (queue,) = driver.set_up()
    assert write_sectors(queue, 0, b"\x5a" * ROOM) == OK
    places = []
    for wanted in (None, log, None):
        parts.ram.log = wanted
        driver.device.agreement.change_log()
        _, room, status = queue.add(struct.pack("<IIQ", 0, 0, 0), ROOM, 1)
        assert finish(queue, status) == OK
        assert queue.ram.read(room, ROOM) == b"\x5a" * ROOM
        places.append(room)
        written = {*range(-(-room // PAGE), (room + ROOM) // PAGE), queue.used // PAGE}
        assert logged(log) >= written if wanted else not logged(log)
    log.close()


def test_a_server_that_keeps_no_log_says_so_and_goes_on(
    serve: Serve, plug: Plug, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vhost_user, "LOG_ALL", 1 << 63)  # as if it did not offer it
    driver, log = plug(serve()), WriteLog(RAM)
    (queue,) = driver.set_up()
    parts.ram.log = log
    with pytest.raises(DeviceError, match="keeps no log"):
        driver.device.agreement.change_log()
    parts.ram.log = None
    assert write_sectors(queue, 0, b"\x5a" * SECTOR) == OK
    log.close()
