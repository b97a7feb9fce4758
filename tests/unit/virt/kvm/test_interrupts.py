"""Interrupts that reach a guest, and writes of its that reach an eventfd."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.interrupts import Chip
from compute_agent.virt.kvm.vcpu_state import Part
from compute_agent.virt.vmm.interrupts import Interrupts
from tests.unit.virt.kvm.toy import FIRST_VECTOR, Running, Toy, toy

WAIT = "f4 eb fd"
MESSAGES = 0xFEE00000
VECTOR = 0x50
INIT, STARTUP = 0x4500, 0x4600
_SPURIOUS = 0xF0
"""A local APIC's register, with the bit that enables it."""


@pytest.fixture
def guest() -> Iterator[Toy]:
    with toy(interrupts=True) as one:
        yield one


@pytest.fixture
def event() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def enable_lapic(guest: Toy) -> None:
    state = bytearray(guest.vcpu.part(Part.LAPIC))
    state[_SPURIOUS : _SPURIOUS + 4] = (0x1FF).to_bytes(4, "little")
    guest.vcpu.set_part(Part.LAPIC, bytes(state))


def test_a_line(guest: Toy) -> None:
    guest.enable_pic(5)
    guest.handle_interrupt(FIRST_VECTOR + 5, "e6 10")
    guest.start(WAIT, interrupts=True)
    running = Running(guest.vcpu)
    guest.vm.set_line(5, True)
    assert running.reason() == ExitReason.KVM_EXIT_IO
    assert guest.line(5)
    guest.vm.set_line(5, False)
    assert not guest.line(5)


def test_an_eventfd_is_a_message(guest: Toy, event: int) -> None:
    enable_lapic(guest)
    guest.handle_interrupt(VECTOR, "e6 10")
    guest.vm.set_routes([(5, Chip.PIC_MASTER, 5)], {30: (MESSAGES, VECTOR)})
    guest.vm.connect_irqfd(event, 30)
    guest.start(WAIT, interrupts=True)
    running = Running(guest.vcpu)
    os.eventfd_write(event, 1)
    assert running.reason() == ExitReason.KVM_EXIT_IO


def test_messages_that_are_held_back_come_later(guest: Toy) -> None:
    """The routing table of a whole machine is one that KVM takes."""
    enable_lapic(guest)
    guest.handle_interrupt(VECTOR, "e6 10")
    message = Interrupts(guest.vm).message()
    message.deliver(MESSAGES, VECTOR)
    message.hold()
    message.send()
    assert message.is_pending
    guest.start(WAIT, interrupts=True)
    running = Running(guest.vcpu)
    message.deliver(MESSAGES, VECTOR)
    assert running.reason() == ExitReason.KVM_EXIT_IO
    assert not message.is_pending
    message.close()


def test_another_processor_waits_until_it_is_started(guest: Toy, event: int) -> None:
    """By two messages, as a processor's local APIC sends them; between them it is not even kicked."""
    guest.load("e6 10", 0x3000)
    guest.vm.connect_irqfd(event, 30)
    with guest.vm.create_vcpu(1) as second:
        second.set_part(Part.LAPIC, second.part(Part.LAPIC))  # KVM sends it nothing before
        running = Running(second)
        for message in (INIT, STARTUP | 0x03):
            guest.vm.set_routes([], {30: (MESSAGES | 1 << 12, message)})
            os.eventfd_write(event, 1)
        assert running.reason() == ExitReason.KVM_EXIT_IO
        assert second.counters().exits == 1


def test_a_kick_stops_a_processor_that_is_not_started(guest: Toy) -> None:
    with guest.vm.create_vcpu(1) as second:
        running = Running(second)
        second.kick()
        assert running.reason() == ExitReason.KVM_EXIT_INTR


@pytest.mark.parametrize("size", [0, 1])
def test_a_write_is_an_event_and_no_exit(guest: Toy, event: int, size: int) -> None:
    write = "b8 00 b8 8e d8 c6 06 02 00 41 e6 10"
    guest.vm.add_notifier(0xB8002, size, event)
    guest.run_to_end(write)
    assert os.eventfd_read(event) == 1
    guest.vm.remove_notifier(0xB8002, size, event)
    guest.start(write)
    assert guest.run() == ExitReason.KVM_EXIT_MMIO
    with pytest.raises(BlockingIOError):
        os.eventfd_read(event)


def test_the_state_of_chips_and_timer(guest: Toy) -> None:
    guest.enable_pic(5)
    chips, timer = {chip: guest.vm.chip_state(chip) for chip in Chip}, guest.vm.timer_state()
    with toy(interrupts=True) as other:
        assert other.vm.chip_state(Chip.PIC_MASTER) != chips[Chip.PIC_MASTER]
        for state in chips.values():
            other.vm.set_chip_state(state)
        other.vm.set_timer_state(timer)
        assert {chip: other.vm.chip_state(chip) for chip in Chip} == chips
        assert len(other.vm.timer_state()) == len(timer)


def test_a_machine_without_controllers_says_so(event: int) -> None:
    with toy() as guest:
        with pytest.raises(KvmError, match="KVM_IRQ_LINE: No such device or address"):
            guest.vm.set_line(5, True)
        with pytest.raises(KvmError, match="KVM_SET_GSI_ROUTING"):
            guest.vm.set_routes([], {30: (MESSAGES, VECTOR)})


def test_a_state_of_another_size_is_not_even_tried(guest: Toy) -> None:
    with pytest.raises(KvmError, match="KVM_SET_PIT2: a state of 3 bytes instead of"):
        guest.vm.set_timer_state(b"abc")


def test_an_event_is_connected_once(guest: Toy, event: int) -> None:
    guest.vm.connect_irqfd(event, 5)
    with pytest.raises(KvmError, match="KVM_IRQFD: Device or resource busy"):
        guest.vm.connect_irqfd(event, 5)
    guest.vm.disconnect_irqfd(event, 5)
    guest.vm.connect_irqfd(event, 5)
