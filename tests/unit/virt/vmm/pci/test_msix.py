"""Where a guest's interrupts go, as its PCI core sets it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.pci.configuration import Identity
from compute_agent.virt.vmm.pci.device import PciDevice
from compute_agent.virt.vmm.pci.msix import Msix
from tests.unit.virt.vmm.parts import MIB, Function, Parts

PENDING = 0x800
ADDRESS = 0xFEE01000
VECTORS = 3


class Card(PciDevice):
    def __init__(self, parts: Parts) -> None:
        super().__init__(Identity(0x1AF4, 0x1044, 0x00FF00, 1, 0x1AF4, 0x40))
        self.msix = Msix(self, 1, parts.interrupts, VECTORS)

    def write(self, offset: int, size: int, value: int) -> None:
        super().write(offset, size, value)
        self.msix.control_written(offset, size)


class Driver:
    """What Linux does with it."""

    def __init__(self, parts: Parts) -> None:
        self.card = Card(parts)
        self.memory = parts.memory
        self.function = Function(parts, parts.bus.add(self.card))
        ((kind, self.capability),) = self.function.capabilities()
        assert kind == 0x11
        self.function.enable()
        table = self.function.read(self.capability + 4, 4)
        assert table & 7 == 1
        self.table = self.function.bar(1)

    def control(self, value: int) -> None:
        self.function.write(self.capability + 2, 2, value)

    def set(self, vector: int, address: int, data: int, masked: int) -> None:
        for place, value in enumerate((address, 0, data, masked)):
            self.memory.write(self.table + 16 * vector + 4 * place, 4, value)

    def pending(self) -> int:
        return self.memory.read(self.table + PENDING, 8)


@pytest.fixture
def driver(parts: Parts) -> Driver:
    return Driver(parts)


def test_the_size_is_told(driver: Driver) -> None:
    assert driver.function.read(driver.capability + 2, 2) == VECTORS - 1
    assert driver.function.read(driver.capability + 8, 4) == PENDING | 1


def test_a_vector_that_is_set_arrives(parts: Parts, driver: Driver) -> None:
    driver.set(1, ADDRESS, 0x41, 0)
    assert not parts.kvm.connected
    driver.control(0x8000)
    message = driver.card.msix.messages[1]
    assert parts.kvm.connected == {message.fd: message.gsi}
    assert parts.kvm.messages == {message.gsi: (ADDRESS, 0x41)}
    assert driver.memory.read(driver.table + 16, 8) == ADDRESS


def test_what_is_masked_is_pending_and_arrives_later(parts: Parts, driver: Driver) -> None:
    driver.control(0x8000)
    driver.set(2, ADDRESS, 0x42, 1)
    driver.card.msix.messages[2].send()
    assert driver.pending() == 1 << 2
    driver.set(2, ADDRESS, 0x42, 0)
    assert driver.card.msix.messages[2].fd in parts.kvm.connected
    assert os.eventfd_read(driver.card.msix.messages[2].fd) == 1  # as KVM does, which looks when it is connected
    driver.control(0xC000)
    assert not parts.kvm.connected


@pytest.mark.parametrize("address", [0, 0x1000, 0xFED00000, 0x1_FEE0_0000])
def test_an_interrupt_goes_to_interrupt_controllers_only(parts: Parts, driver: Driver, address: int) -> None:
    driver.control(0x8000)
    driver.set(0, address & 0xFFFFFFFF, 0x41, 1)
    driver.memory.write(driver.table + 4, 4, address >> 32)
    driver.memory.write(driver.table + 12, 4, 0)
    assert not parts.kvm.connected


def test_after_a_reset_all_is_masked_and_nothing_pending(parts: Parts, driver: Driver) -> None:
    driver.control(0x8000)
    driver.set(0, ADDRESS, 0x41, 0)
    driver.card.msix.messages[1].send()
    driver.card.msix.reset()
    assert not parts.kvm.connected
    assert driver.pending() == 0
    assert driver.memory.read(driver.table + 12, 4) == 1
    assert driver.function.read(driver.capability + 2, 2) == VECTORS - 1


def test_a_vector_that_is_none(driver: Driver) -> None:
    assert driver.card.msix.message(VECTORS) is None
    assert driver.card.msix.message(0xFFFF) is None


def test_a_suspended_function_goes_on(driver: Driver) -> None:
    driver.control(0x8000)
    driver.set(0, ADDRESS, 0x41, 0)
    driver.card.msix.messages[2].send()
    with GuestRam(MIB) as ram:
        other = Parts(ram)
        again = Driver(other)
        again.card.restore_pci(driver.card.pci_state())
        again.card.msix.restore(driver.card.msix.state())
        message = again.card.msix.messages[0]
        assert other.kvm.connected == {message.fd: message.gsi}
        assert other.kvm.messages == {message.gsi: (ADDRESS, 0x41)}
        assert again.pending() == 1 << 2


def test_what_is_gone_has_no_routes(parts: Parts, driver: Driver) -> None:
    driver.control(0x8000)
    driver.set(0, ADDRESS, 0x41, 0)
    driver.card.msix.close()
    assert not parts.kvm.connected
    assert not parts.kvm.messages


_ACCESS = st.tuples(st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))


@given(st.lists(st.one_of(_ACCESS, st.tuples(st.just(None), st.just(2), st.integers(0, 0xFFFF))), max_size=60))
def test_nothing_that_a_guest_writes_to_it_hurts(accesses: list[tuple[int | None, int, int]]) -> None:
    with GuestRam(MIB) as ram:
        parts = Parts(ram)
        driver = Driver(parts)
        for offset, size, value in accesses:
            if offset is None:
                driver.control(value)
            elif offset + size <= 0x1000:
                driver.memory.write(driver.table + offset, size, value & (1 << 8 * size) - 1)
                driver.memory.read(driver.table + offset, size)
        assert len(parts.kvm.messages) <= VECTORS
        assert len(parts.kvm.connected) <= VECTORS
        driver.card.msix.close()
