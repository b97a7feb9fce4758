"""A driver and its device come to an agreement, or do not; nothing a driver does hurts anybody else."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.errors import DeviceError, KvmError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.configuration import Header
from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.device import VERSION_1, DeviceType, VirtioDevice
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.rng import Rng
from tests.unit.virt.vmm.parts import MIB, Parts
from tests.unit.virt.vmm.virtio.driver import (
    DRIVER_OK,
    FEATURES_OK,
    ISR,
    NEEDS_RESET,
    NOTIFY,
    WINDOW,
    Driver,
)

FEATURE = 1 << 5


class Served(VirtioDevice):
    """Notes what it is asked for; its queues would be served by somebody else."""

    type = DeviceType.BLOCK
    features = VERSION_1 | FEATURE
    queue_sizes = (128, 16)

    def __init__(self) -> None:
        self.running: list[tuple[int, int]] = []
        self.calls: list[int] = []
        self.is_closed = self.is_broken = False

    def configuration(self) -> bytes:
        return bytes(range(16))

    def start(self, queues: Sequence[Queue], features: int) -> None:
        if self.is_broken:
            raise DeviceError("nobody serves it")
        self.running = [(queue.number, queue.next) for queue in queues if queue.is_enabled]

    def stop(self, queues: Sequence[Queue]) -> None:
        self.running = []
        for queue in queues:
            queue.next += 3

    def call_changed(self, queue: Queue) -> None:
        self.calls.append(queue.call)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def driver(parts: Parts, served: Served) -> Iterator[Driver]:
    driver = Driver(parts, VirtioPci(served, parts.ram, parts.interrupts, parts.kvm))
    yield driver
    driver.device.close()


def test_a_driver_finds_it(driver: Driver) -> None:
    assert driver.function.read(Header.VENDOR, 4) == 0x1042_1AF4
    assert driver.function.read(Header.CLASS_AND_REVISION, 4) == 0x01000001
    assert driver.read(Register.QUEUES, 2) == 2
    assert driver.offered() == VERSION_1 | FEATURE
    assert driver.configuration(2, 4) == 0x05040302
    assert driver.configuration(14, 4) == 0x0F0E
    driver.write(Register.DEVICE_FEATURE_SELECT, 4, 2)
    assert driver.read(Register.DEVICE_FEATURE, 4) == 0


@pytest.mark.parametrize(
    ("features", "agreed"), [(VERSION_1, True), (VERSION_1 | FEATURE, True), (FEATURE, False), (VERSION_1 | 1, False)]
)
def test_features(driver: Driver, served: Served, features: int, agreed: bool) -> None:
    assert driver.agree(features) is agreed
    assert (driver.go() & DRIVER_OK == DRIVER_OK) is agreed


def test_what_was_agreed_on_stays(driver: Driver) -> None:
    assert driver.agree()
    driver.write(Register.DRIVER_FEATURE_SELECT, 4, 0)
    driver.write(Register.DRIVER_FEATURE, 4, FEATURE)
    assert driver.read(Register.DRIVER_FEATURE, 4) == 0
    driver.write(Register.STATUS, 1, 1)
    assert driver.read(Register.STATUS, 1) & FEATURES_OK


def test_queues_are_served_once_the_driver_says_so(driver: Driver, served: Served) -> None:
    driver.agree()
    driver.set_queue(0, 0x100000)
    assert not served.running
    driver.go()
    assert served.running == [(0, 0)]
    driver.write(Register.STATUS, 1, 0)
    assert not served.running
    assert driver.read(Register.STATUS, 1) == 0
    assert driver.read(Register.QUEUE_ENABLE, 2) == 0


def test_sizes_of_queues(driver: Driver) -> None:
    driver.write(Register.QUEUE_SELECT, 2, 1)
    assert driver.read(Register.QUEUE_SIZE, 2) == 16
    for size, taken in ((8, 8), (32, 8), (7, 8), (0, 8), (1, 1)):
        driver.write(Register.QUEUE_SIZE, 2, size)
        assert driver.read(Register.QUEUE_SIZE, 2) == taken
    driver.write(Register.QUEUE_SELECT, 2, 2)
    assert driver.read(Register.QUEUE_SIZE, 2) == 0


def test_an_enabled_queue_stays_where_it_is(driver: Driver) -> None:
    driver.agree()
    queue = driver.set_queue(0, 0x100000, size=64)
    driver.write(Register.QUEUE_DESCRIPTORS, 4, 0x200000)
    driver.write(Register.QUEUE_SIZE, 2, 32)
    driver.write(Register.QUEUE_ENABLE, 2, 0)
    assert driver.read(Register.QUEUE_DESCRIPTORS, 8) == queue.descriptors
    assert driver.read(Register.QUEUE_SIZE, 2) == 64
    assert driver.read(Register.QUEUE_ENABLE, 2) == 1


@pytest.mark.parametrize("address", [4 * MIB - 0x1000, 0xC0000000, 0xFFFFFFFFFFFFF000])
def test_a_queue_that_is_not_in_memory_is_not_served(driver: Driver, served: Served, address: int) -> None:
    driver.agree()
    driver.set_vectors()
    driver.set_queue(0, address)
    assert driver.go() & NEEDS_RESET
    assert not served.running
    assert driver.interrupted(2)
    driver.write(Register.STATUS, 1, 0)
    assert driver.set_up()
    assert served.running


def test_who_cannot_serve_says_so(driver: Driver, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.is_broken = True
    for _ in range(3):
        driver.agree()
        driver.set_queue(0, 0x100000)
        assert driver.go() & NEEDS_RESET
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("a block device needs a reset: nobody serves it")


def test_each_queue_interrupts_by_its_vector(driver: Driver, served: Served) -> None:
    driver.set_up(queues=2)
    first, second = driver.device.agreement.queues
    first.interrupt()
    assert driver.interrupted(0)
    assert not driver.interrupted(1)
    driver.write(Register.QUEUE_SELECT, 2, 1)
    driver.write(Register.QUEUE_VECTOR, 2, 0)
    assert served.calls == [first.call]
    second.interrupt()
    assert driver.interrupted(0)
    driver.write(Register.QUEUE_VECTOR, 2, 3)
    assert driver.read(Register.QUEUE_VECTOR, 2) == 0xFFFF
    assert served.calls[1:] == [-1]
    second.interrupt()


def test_kvm_is_told_where_notifications_go_and_where_they_moved(parts: Parts, driver: Driver) -> None:
    kicks = [queue.kick for queue in driver.device.agreement.queues]
    place = driver.places[NOTIFY]
    assert set(parts.kvm.notifiers) == {(place, 0, kicks[0]), (place + 4, 0, kicks[1])}
    driver.function.write(Header.BARS, 4, 0xF0000000)
    assert {address for address, _, _ in parts.kvm.notifiers} == {0xF0003000, 0xF0003004}
    driver.function.write(Header.COMMAND, 2, 0)
    assert not parts.kvm.notifiers


def test_what_kvm_does_not_notify_of_arrives_all_the_same(
    parts: Parts, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise KvmError("KVM_IOEVENTFD", "No space left on device")

    monkeypatch.setattr(parts.kvm, "add_notifier", refuse)
    driver = Driver(parts, VirtioPci(served, parts.ram, parts.interrupts, parts.kvm))
    driver.set_up(queues=2)
    driver.notify(1)
    kicks = [queue.kick for queue in driver.device.agreement.queues]
    assert select.select(kicks, [], [], 0)[0] == [kicks[1]]
    driver.device.close()


def test_a_change_of_the_configuration_is_told(parts: Parts, driver: Driver) -> None:
    driver.device.agreement.change_configuration()
    driver.set_up()
    generation = driver.read(Register.GENERATION, 1)
    assert not driver.interrupted(2)
    driver.device.agreement.change_configuration()
    assert driver.interrupted(2)
    assert driver.read(Register.GENERATION, 1) == generation + 1
    assert parts.memory.read(driver.places[ISR], 1) == 2
    assert parts.memory.read(driver.places[ISR], 1) == 0


def test_registers_through_the_configuration_space(driver: Driver) -> None:
    window = driver.places[WINDOW]
    driver.agree()
    for field, value in ((8, Register.STATUS), (12, 1)):
        driver.function.write(window + field, 4, value)
    assert driver.function.read(window + 16, 1) == driver.read(Register.STATUS, 1) != 0
    driver.function.write(window + 16, 1, 0)
    assert driver.read(Register.STATUS, 1) == 0
    for field, value in ((8, 0x3FFF), (12, 4)):
        driver.function.write(window + field, 4, value)
    assert driver.function.read(window + 16, 4) == 0


def test_a_suspended_device_goes_on_where_it_was(driver: Driver, served: Served) -> None:
    driver.set_up(VERSION_1 | FEATURE, queues=2)
    driver.write(Register.QUEUE_SELECT, 2, 1)
    driver.device.agreement.pause()
    driver.device.agreement.pause()
    assert not served.running
    state = driver.device.state()
    with GuestRam(4 * MIB) as ram:
        other, there = Served(), Parts(ram)
        again = Driver(there, VirtioPci(other, ram, there.interrupts, there.kvm))
        again.device.restore(state)
        assert not other.running
        again.device.agreement.resume()
        assert other.running == [(0, 3), (1, 3)]
        assert again.read(Register.QUEUE_VECTOR, 2) == 1
        again.device.agreement.queues[1].interrupt()
        assert again.interrupted(1)
        assert again.device.agreement.features == VERSION_1 | FEATURE
        again.device.close()


@pytest.mark.parametrize("lesser", [{"features": VERSION_1}, {"queue_sizes": (128,)}])
def test_a_device_that_can_do_less_does_not_go_on(
    driver: Driver, served: Served, monkeypatch: pytest.MonkeyPatch, lesser: dict[str, object]
) -> None:
    driver.set_up(VERSION_1 | FEATURE, queues=2)
    driver.device.agreement.pause()
    state = driver.device.state()
    for name, value in lesser.items():
        monkeypatch.setattr(Served, name, value)
    with GuestRam(4 * MIB) as ram:
        there = Parts(ram)
        again = VirtioPci(Served(), ram, there.interrupts, there.kvm)
        with pytest.raises(DeviceError, match="this block device can do less"):
            again.restore(state)
        again.close()


def test_after_a_reset_of_the_machine_nothing_is_left(parts: Parts, driver: Driver, served: Served) -> None:
    driver.set_up(queues=2)
    driver.device.reset()
    assert not served.running
    assert not parts.kvm.notifiers
    assert not parts.kvm.connected
    driver.function.enable()
    assert driver.read(Register.STATUS, 1) == 0
    assert driver.read(Register.CONFIG_VECTOR, 2) == 0xFFFF
    assert driver.set_up()


def test_a_device_that_is_pulled_out_leaves_nothing(parts: Parts, driver: Driver, served: Served) -> None:
    driver.set_up(queues=2)
    parts.bus.remove(1).unplug()
    driver.device.close()
    driver.device.close()
    assert served.is_closed
    assert not served.running
    assert not parts.kvm.notifiers
    assert not parts.kvm.connected
    assert not parts.kvm.messages


_PLACES = st.one_of(
    st.integers(0, 0x3F), st.integers(0x1000, 0x1008), st.integers(0x2000, 0x2010), st.integers(0, 0x3FFF)
)
_INTERESTING = st.sampled_from([0, 1, 2, 3, 4, 8, 15, 16, 0xFF, 0xFFFF, 0x100000, 0x3FF000, 0xFFFFFFFF])
_ACCESS = st.tuples(_PLACES, st.sampled_from([1, 2, 4, 8]), st.one_of(_INTERESTING, st.integers(0, 2**64 - 1)))


@pytest.mark.parametrize("kind", [Served, Rng])
@given(st.lists(_ACCESS, max_size=60), st.binary(max_size=64))
def test_nothing_that_a_driver_does_hurts(kind: type, accesses: list[tuple[int, int, int]], junk: bytes) -> None:
    with GuestRam(4 * MIB) as ram:
        parts = Parts(ram)
        ram.write(0x100000, junk * 64)
        device = Rng(ram) if kind is Rng else Served()
        driver = Driver(parts, VirtioPci(device, ram, parts.interrupts, parts.kvm))
        driver.set_up()
        for offset, size, value in accesses:
            parts.memory.write(driver.function.bar(0) + offset, size, value & (1 << 8 * size) - 1)
            driver.notify(0)
            assert 0 <= parts.memory.read(driver.function.bar(0) + offset, size) < 1 << 8 * size
        driver.device.close()


@given(st.lists(st.tuples(st.integers(0, 0xFF), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1)), max_size=60))
def test_nothing_that_is_written_to_its_configuration_space_hurts(accesses: list[tuple[int, int, int]]) -> None:
    with GuestRam(4 * MIB) as ram:
        parts = Parts(ram)
        driver = Driver(parts, VirtioPci(Served(), ram, parts.interrupts, parts.kvm))
        for register, size, value in accesses:
            driver.function.write(register & -size, size, value & (1 << 8 * size) - 1)
            driver.function.read(register & -size, size)
        driver.device.close()
