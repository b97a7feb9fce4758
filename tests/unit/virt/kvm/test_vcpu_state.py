"""What survives a suspension, and what the kernel counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.vcpu_state import Part
from tests.unit.virt.kvm.toy import CODE, Toy, toy

TSC, STAR, UNKNOWN = 0x10, 0xC0000081, 0xDEADBEEF


@pytest.fixture
def guest() -> Iterator[Toy]:
    with toy(interrupts=True) as one:
        yield one


def test_a_guest_goes_on_in_another_machine(guest: Toy) -> None:
    guest.run_to_end("b8 41 00 bb 07 00 e6 10 01 d8 e6 10")
    guest.finish_exit()
    registers, special = guest.vcpu.registers(), guest.vcpu.special_registers()
    parts = {part: guest.vcpu.part(part) for part in Part}
    with toy(interrupts=True) as other:
        other.memory.content[:] = guest.memory.content[:]
        other.vcpu.set_special_registers(special)
        for part, state in parts.items():
            other.vcpu.set_part(part, state)
        other.vcpu.set_registers(registers)
        assert other.vcpu.registers().rip == CODE + 8
        other.expect_done()
        assert other.exit_data() == b"\x48"


@pytest.mark.parametrize("part", Part)
def test_a_part_is_taken_back(guest: Toy, part: Part) -> None:
    state = guest.vcpu.part(part)
    guest.vcpu.set_part(part, state)
    assert len(guest.vcpu.part(part)) == len(state) > 0


def test_msrs(guest: Toy) -> None:
    with Device() as device:
        indices = device.msr_indices()
    assert TSC in indices
    values = guest.vcpu.msrs([UNKNOWN, *indices, UNKNOWN])
    assert TSC in values
    assert UNKNOWN not in values


def test_the_msrs_after_a_refused_one_are_set(guest: Toy) -> None:
    assert guest.vcpu.set_msrs({UNKNOWN: 1, STAR: 0x23001000000000}) == [UNKNOWN]
    assert guest.vcpu.msrs([UNKNOWN, STAR]) == {STAR: 0x23001000000000}


def test_the_clock_goes_on_from_where_it_is_set(guest: Toy) -> None:
    guest.vm.set_clock(10**15)
    first = guest.vm.clock()
    assert 10**15 <= first <= guest.vm.clock() < 10**15 + 60 * 10**9


def test_the_time_stamp_counter(guest: Toy) -> None:
    assert guest.vcpu.tsc_khz() > 100_000


def test_a_guest_without_a_clock_needs_no_excuse(guest: Toy) -> None:
    guest.vcpu.excuse_pause()


def test_the_kernel_counts(guest: Toy) -> None:
    before = guest.vcpu.statistics()["exits"]
    guest.run_to_end("e6 10")
    assert guest.vcpu.statistics()["exits"] > before
    assert {"remote_tlb_flush", "pages_4k"} <= set(guest.vm.statistics())
