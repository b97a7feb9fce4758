"""A vCPU that runs, and one that is stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.vcpu import Vcpu
from tests.unit.virt.kvm.toy import CODE, Running, Toy, toy

FOREVER = "eb fe"


@pytest.fixture
def guest() -> Iterator[Toy]:
    with toy() as one:
        yield one


def test_a_write_to_a_port(guest: Toy) -> None:
    guest.start("b8 34 12 e7 60 f4")
    assert guest.run() == ExitReason.KVM_EXIT_IO
    io = guest.vcpu.shared.io
    assert (io.port, io.size, io.count, io.direction) == (0x60, 2, 1, 1)
    assert guest.exit_data() == b"\x34\x12"
    assert guest.run() == ExitReason.KVM_EXIT_HLT


def test_memory_mapped_registers(guest: Toy) -> None:
    guest.start("b8 00 b8 8e d8 c6 06 02 00 41 a0 03 00 e6 10")
    assert guest.run() == ExitReason.KVM_EXIT_MMIO
    mmio = guest.vcpu.shared.mmio
    assert (mmio.phys_addr, mmio.len, mmio.is_write, mmio.data[0]) == (0xB8002, 1, 1, 0x41)
    assert guest.run() == ExitReason.KVM_EXIT_MMIO
    assert (mmio.phys_addr, mmio.is_write) == (0xB8003, 0)
    mmio.data[0] = 0x42
    guest.expect_done()
    assert guest.exit_data() == b"\x42"


def test_what_was_read_arrives_before_the_registers_are_saved(guest: Toy) -> None:
    guest.start("e4 10 f4")
    guest.expect_done()
    guest.answer(b"\x5a")
    assert guest.vcpu.complete_io() == ExitReason.KVM_EXIT_INTR
    registers = guest.vcpu.registers()
    assert (registers.rax & 0xFF, registers.rip) == (0x5A, CODE + 2)


def test_all_that_an_instruction_reads_is_asked_for(guest: Toy) -> None:
    """A string of five words; the processor may want them at once, or one after another."""
    guest.start("bf 00 30 ba 10 00 b9 05 00 fc f3 6d f4")
    guest.expect_done()
    answered = 0
    while answered < 5:
        count = guest.vcpu.shared.io.count
        guest.answer(b"ab" * count)
        answered += count
        reason = guest.vcpu.complete_io()
        guest.vcpu.clear_kick()
        if reason == ExitReason.KVM_EXIT_INTR and answered < 5:
            guest.expect_done()
    assert guest.run() == ExitReason.KVM_EXIT_HLT
    assert guest.memory.content[0x3000:0x300B] == b"ababababab\0"


def test_a_kick_stops_a_guest_that_runs(guest: Toy) -> None:
    guest.start(FOREVER)
    running = Running(guest.vcpu)
    guest.vcpu.kick()
    assert running.reason() == ExitReason.KVM_EXIT_INTR


def test_a_kick_stops_a_guest_that_will_run(guest: Toy) -> None:
    guest.start("40 eb fd")
    guest.vcpu.kick()
    for _ in range(2):
        assert guest.run() == ExitReason.KVM_EXIT_INTR
    assert guest.vcpu.registers().rax == 0
    guest.vcpu.clear_kick()
    guest.start("e6 10")
    guest.expect_done()


def test_no_kick_is_lost_whenever_it_comes(guest: Toy) -> None:
    """Before, between and within runs."""
    guest.start(FOREVER)
    for _ in range(300):
        running = Running(guest.vcpu)
        guest.vcpu.kick()
        assert running.reason() == ExitReason.KVM_EXIT_INTR
        guest.vcpu.clear_kick()


def test_a_kick_ends_the_c_loop_of_a_guest_that_never_needs_python() -> None:
    with toy(log=-1) as guest:
        guest.start("e6 80 eb fc")
        running = Running(guest.vcpu)
        guest.vcpu.kick()
        assert running.reason() == ExitReason.KVM_EXIT_INTR


def test_a_kick_stops_a_processor_that_waits_for_an_interrupt() -> None:
    with toy(interrupts=True) as guest:
        guest.start("f4 eb fd", interrupts=True)
        running = Running(guest.vcpu)
        guest.vcpu.kick()
        assert running.reason() == ExitReason.KVM_EXIT_INTR


def test_kicks_from_many_threads_while_the_guest_exits(guest: Toy) -> None:
    guest.start("e6 10 eb fc")
    kickers = [threading.Thread(target=lambda: [guest.vcpu.kick() for _ in range(200)]) for _ in range(4)]
    for kicker in kickers:
        kicker.start()
    while any(kicker.is_alive() for kicker in kickers):
        assert guest.vcpu.run() in (ExitReason.KVM_EXIT_IO, ExitReason.KVM_EXIT_INTR)
        guest.vcpu.clear_kick()
    guest.vcpu.clear_kick()
    guest.expect_done()


def test_a_kick_that_comes_too_late_does_nothing(guest: Toy) -> None:
    with guest.vm.create_vcpu(1) as other:
        pass
    other.kick()
    other.clear_kick()


def test_exits_are_counted(guest: Toy) -> None:
    guest.start("e6 10 e6 10 f4")
    before = guest.vcpu.counters()
    guest.expect_done()
    guest.expect_done()
    guest.run()
    after = guest.vcpu.counters()
    assert (after.exits - before.exits, after.answered) == (3, 0)
    assert (after.passed[ExitReason.KVM_EXIT_IO], after.passed[ExitReason.KVM_EXIT_HLT]) == (2, 1)


def test_a_vcpu_that_cannot_run_says_so() -> None:
    null = os.open("/dev/zero", os.O_RDWR)
    with Vcpu(null, 4096, 0, None) as vcpu, pytest.raises(KvmError, match="KVM_RUN: Inappropriate ioctl for device"):
        vcpu.run()
