"""A guest gets its randomness, and nothing outside its own buffers changes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.rng import Rng
from tests.unit.virt.vmm.parts import MIB, Parts
from tests.unit.virt.vmm.virtio.driver import INDIRECT, NEEDS_RESET, NEXT, WRITABLE, Driver, DriverQueue


@pytest.fixture
def driver(parts: Parts) -> Iterator[Driver]:
    driver = Driver(parts, VirtioPci(Rng(parts.ram), parts.ram, parts.interrupts, parts.kvm))
    yield driver
    driver.device.close()


@pytest.fixture
def queue(driver: Driver) -> DriverQueue:
    return driver.set_up()[0]


def test_buffers_are_filled(parts: Parts, driver: Driver, queue: DriverQueue) -> None:
    (first,) = queue.add(64)
    second, third = queue.add(16, 16)
    queue.kick()
    assert queue.finished() == [(0, 64), (1, 32)]
    assert driver.interrupted(0)
    contents = {parts.ram.read(first, 64), parts.ram.read(second, 16), parts.ram.read(third, 16)}
    assert len(contents) == 3
    assert not any(content == bytes(len(content)) for content in contents)
    assert parts.ram.read(queue.buffers, 64) == bytes(64)


def test_more_than_a_ring_full(parts: Parts, driver: Driver) -> None:
    driver.agree()
    queue = driver.set_queue(0, 0x100000, size=4)
    driver.go()
    for _ in range(11):
        queue.describe(0, 0x200000, 8, WRITABLE, 0)
        queue.offer(0)
        queue.kick()
        assert queue.finished() == [(0, 8)]


def test_what_is_sent_before_the_driver_is_ready_is_served_then(driver: Driver) -> None:
    driver.agree()
    driver.set_vectors()
    queue = driver.set_queue(0, 0x100000)
    queue.add(8)
    queue.kick()
    assert not queue.finished()
    driver.go()
    assert queue.finished() == [(0, 8)]


def test_a_buffer_whose_pieces_are_listed_elsewhere(parts: Parts, queue: DriverQueue) -> None:
    pieces = [(0x200000, 8, NEXT | WRITABLE, 1), (0x210000, 8, WRITABLE, 0)]
    parts.ram.write(0x220000, b"".join(struct.pack("<QIHH", *piece) for piece in pieces))
    queue.describe(3, 0x220000, 32, INDIRECT, 0)
    queue.offer(3)
    queue.kick()
    assert queue.finished() == [(3, 16)]
    assert any(parts.ram.read(0x210000, 8))


def test_a_list_that_lists_itself_asks_for_a_reset(parts: Parts, driver: Driver, queue: DriverQueue) -> None:
    parts.ram.write(0x220000, struct.pack("<QIHH", 0x220000, 16, INDIRECT, 0))
    queue.describe(0, 0x220000, 16, INDIRECT, 0)
    queue.offer(0)
    queue.kick()
    assert driver.read(Register.STATUS, 1) & NEEDS_RESET


def test_the_driver_is_asked_to_tell_of_the_next_one(parts: Parts, queue: DriverQueue) -> None:
    for count in range(1, 4):
        queue.add(8)
        queue.kick()
        assert parts.ram.read(queue.used + 4 + 8 * queue.size, 2) == count.to_bytes(2, "little")


def test_a_greedy_driver_has_to_ask_again(queue: DriverQueue) -> None:
    queue.describe(0, 0x200000, 0x100000, WRITABLE, 0)
    queue.offer(0)
    queue.kick()
    assert queue.finished() == [(0, 4096)]


@pytest.mark.parametrize(
    ("address", "flags", "following"),
    [
        (0xC0000000, WRITABLE, 0),
        (0x3FFFFC, WRITABLE, 0),
        (0x200000, NEXT | WRITABLE, 0),
        (0x200000, NEXT, 64),
        (0, 4, 0),
    ],
)
def test_a_mess_asks_for_a_reset(driver: Driver, queue: DriverQueue, address: int, flags: int, following: int) -> None:
    queue.describe(0, address, 8, flags, following)
    queue.offer(0)
    queue.kick()
    assert driver.read(Register.STATUS, 1) & NEEDS_RESET
    assert not queue.finished()
    assert driver.interrupted(1)
    driver.set_up(address=0x180000)[0].add(8)
    driver.notify(0)
    assert driver.queues[0].finished() == [(0, 8)]


def test_more_waiting_than_there_is_room_asks_for_a_reset(parts: Parts, driver: Driver, queue: DriverQueue) -> None:
    parts.ram.write(queue.available + 2, (65).to_bytes(2, "little"))
    queue.kick()
    assert driver.read(Register.STATUS, 1) & NEEDS_RESET


@given(st.binary(min_size=16, max_size=256), st.binary(min_size=8, max_size=64), st.integers(1, 70))
def test_nothing_in_a_queue_hurts(descriptors: bytes, available: bytes, count: int) -> None:
    with GuestRam(4 * MIB) as ram:
        parts = Parts(ram)
        driver = Driver(parts, VirtioPci(Rng(ram), ram, parts.interrupts, parts.kvm))
        (queue,) = driver.set_up()
        ram.write(queue.descriptors, descriptors)
        ram.write(queue.available + 4, available)
        ram.write(queue.available + 2, count.to_bytes(2, "little"))
        queue.kick()
        assert len(queue.finished()) <= 64
        driver.device.close()
