"""Devices come and go as the methods in the DSDT say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_agent.virt.vmm.pci.hotplug import HotPlug

CAME, GOES, EJECT = 0, 4, 8


class Machine:
    def __init__(self) -> None:
        self.told, self.ejected = 0, list[int]()
        self.hot_plug = HotPlug(self._tell, self.ejected.append)

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_what_comes_is_told_once(machine: Machine) -> None:
    machine.hot_plug.announce(3)
    machine.hot_plug.announce(5)
    assert machine.told == 2
    assert machine.hot_plug.read(CAME, 4) == 1 << 3 | 1 << 5
    assert machine.hot_plug.read(CAME, 4) == 0


def test_what_is_to_go_is_told_until_it_goes(machine: Machine) -> None:
    machine.hot_plug.ask_for(4)
    assert machine.hot_plug.read(GOES, 4) == machine.hot_plug.read(GOES, 4) == 1 << 4
    assert not machine.ejected
    machine.hot_plug.write(EJECT, 4, 1 << 4)
    assert machine.ejected == [4]
    assert machine.hot_plug.read(GOES, 4) == 0


def test_a_guest_lets_go_unasked_but_not_of_the_bridge(machine: Machine) -> None:
    machine.hot_plug.write(EJECT, 4, 1 | 1 << 31)
    assert machine.ejected == [31]


def test_a_reset_takes_what_was_asked_for(machine: Machine) -> None:
    machine.hot_plug.announce(2)
    machine.hot_plug.ask_for(4)
    machine.hot_plug.reset()
    assert machine.ejected == [4]
    assert machine.hot_plug.read(CAME, 4) == 0


def test_a_suspended_machine_still_has_to_tell(machine: Machine) -> None:
    machine.hot_plug.announce(2)
    machine.hot_plug.ask_for(4)
    other = Machine()
    other.hot_plug.restore(machine.hot_plug.state())
    assert (other.hot_plug.read(CAME, 4), other.hot_plug.read(GOES, 4)) == (1 << 2, 1 << 4)


@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1)), max_size=30))
def test_nothing_that_a_guest_writes_to_it_hurts(accesses: list[tuple[int, int, int]]) -> None:
    machine = Machine()
    for offset, size, value in accesses:
        machine.hot_plug.write(offset, size, value & (1 << 8 * size) - 1)
        assert machine.hot_plug.read(offset, size) >= 0
    assert 0 not in machine.ejected
