"""What a kernel does with ACPI's fixed hardware."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.kvm.board import Board
from compute_agent.virt.vmm.interrupts import Interrupts
from compute_agent.virt.vmm.power import PORTS, Power, Register
from tests.unit.virt.vmm.parts import KvmRecord

SCI, BUTTON, SCI_ENABLED, SLEEP = 9, 0x100, 1, 1 << 13
TICKS_A_SECOND = 3_579_545


class Machine:
    def __init__(self) -> None:
        self.kvm, self.offs = KvmRecord(), 0
        self.power = Power(Interrupts(self.kvm).line(SCI), Board(-1, -1), self._off)

    def _off(self) -> None:
        self.offs += 1


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_the_button_interrupts_until_it_is_seen(machine: Machine) -> None:
    machine.power.press_button()
    assert not machine.kvm.high
    machine.power.write(Register.ENABLE, 2, BUTTON)
    assert machine.kvm.high == {SCI}
    assert machine.power.read(Register.STATUS, 2) & 0xFFFF == BUTTON
    machine.power.write(Register.STATUS, 2, 0x00FF)
    assert machine.kvm.high == {SCI}
    machine.power.write(Register.STATUS, 2, BUTTON)
    assert not machine.kvm.high
    assert machine.power.read(Register.STATUS, 2) & 0xFFFF == 0


def test_status_and_enable_at_once_and_in_bytes(machine: Machine) -> None:
    machine.power.write(Register.ENABLE + 1, 1, BUTTON >> 8)
    assert machine.power.read(Register.STATUS, 4) & 0xFFFFFFFF == BUTTON << 16
    machine.power.press_button()
    assert machine.power.read(Register.STATUS + 1, 1) & 0xFF == BUTTON >> 8
    machine.power.write(Register.STATUS, 4, BUTTON << 16 | BUTTON)
    assert not machine.kvm.high


@pytest.mark.parametrize(("value", "offs"), [(SLEEP, 1), (0, 0), (3 << 10 | SLEEP, 0), (SCI_ENABLED, 0)])
def test_power_off(machine: Machine, value: int, offs: int) -> None:
    machine.power.write(Register.CONTROL, 2, value)
    assert machine.offs == offs
    assert machine.power.read(Register.CONTROL, 2) & (SCI_ENABLED | SLEEP) == SCI_ENABLED


def test_a_suspended_machine_goes_on(machine: Machine) -> None:
    machine.power.write(Register.ENABLE, 2, BUTTON)
    machine.power.press_button()
    state = msgspec.structs.replace(machine.power.state(), timer=0x12345678)
    other = Machine()
    other.power.restore(state)
    assert other.kvm.high == {SCI}
    restored = other.power.state()
    assert 0 <= restored.timer - state.timer < 60 * TICKS_A_SECOND
    assert msgspec.structs.replace(restored, timer=state.timer) == state


def test_other_events_interrupt_too(machine: Machine) -> None:
    machine.power.write(Register.GENERAL_ENABLE, 1, 2)
    machine.power.tell_of_hot_plug()
    assert machine.kvm.high == {SCI}
    assert machine.power.read(Register.GENERAL_STATUS, 2) & 0xFFFF == 0x0202
    machine.power.write(Register.GENERAL_STATUS, 1, 2)
    assert not machine.kvm.high


def test_reset_forgets_the_button(machine: Machine) -> None:
    machine.power.write(Register.ENABLE, 2, BUTTON)
    machine.power.press_button()
    machine.power.reset()
    assert not machine.kvm.high


_ACCESS = st.tuples(st.integers(0, len(PORTS) - 1), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))


@given(st.lists(_ACCESS, max_size=30))
def test_nothing_that_a_guest_writes_to_it_hurts(accesses: list[tuple[int, int, int]]) -> None:
    machine = Machine()
    for offset, size, value in accesses:
        machine.power.write(offset, size, value & (1 << 8 * size) - 1)
        assert machine.power.read(offset, size) >= 0
