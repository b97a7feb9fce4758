"""A machine moves to another one while it runs, both of this process, on this machine's own /dev/kvm."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from typing import cast

import pytest

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.machine import Machine
from compute_agent.virt.vmm.memory import HOLE
from compute_agent.virt.vmm.migration.parameters import Capabilities, Capability, Parameters
from compute_agent.virt.vmm.run_state import RunState
from tests.unit.virt.vmm.counting_machine import MEMORY, PAGE, PAGES, a_machine, counter
from tests.unit.virt.waiting import until


def numbers(machine: Machine) -> list[int]:
    """Those that it wrote, in order."""
    return sorted(struct.unpack("<I", machine.ram.read(page, 4))[0] for page in PAGES)


def status(machine: Machine) -> object:
    return machine.moves.carrier.describe().get("status")


def dirty_rate(machine: Machine) -> int:
    """Pages a second."""
    ram = cast(Mapping[str, int], machine.moves.carrier.describe()["ram"])
    return ram["dirty-pages-rate"]


def send(here: Machine, there: Machine) -> None:
    out, into = socket.socketpair()
    there.moves.take(into)
    here.moves.send(out.detach())


def test_it_goes_on_where_it_was_with_all_that_it_wrote(here: Machine, there: Machine) -> None:
    here.ram.write(0x200000, b"rarely")
    with pytest.raises(MonitorError, match="not all here"):
        there.life.resume()
    send(here, there)
    until(lambda: status(here) == "completed" and status(there) == "completed")
    assert (here.life.state, there.life.state) == (RunState.POSTMIGRATE, RunState.PAUSED)
    assert there.ram.read(0, MEMORY) == here.ram.read(0, MEMORY)
    there.life.resume()
    until(lambda: counter(there) > counter(here) + len(PAGES))
    there.life.pause()
    last = counter(there)
    assert numbers(there) in ([*range(last - len(PAGES) + 1, last + 1)], [*range(last - len(PAGES), last)])


def test_what_became_zeros_meanwhile_is_zeros_there(here: Machine, there: Machine) -> None:
    here.ram.write(0x300000, b"x" * PAGE)
    here.moves.wishes.set_parameters(Parameters(max_bandwidth=200_000, downtime_limit=0))
    send(here, there)
    until(lambda: there.ram.read(0x300000, 1) == b"x")
    here.ram.write(0x300000, bytes(PAGE))
    here.moves.wishes.set_parameters(Parameters(max_bandwidth=1 << 40, downtime_limit=1000))
    until(lambda: status(there) == "completed")
    assert there.ram.read(0x300000, PAGE) == bytes(PAGE)


def test_memory_on_both_sides_of_the_hole_arrives() -> None:
    size = HOLE.start + MEMORY
    with a_machine(memory=size) as here, a_machine(memory=size, is_incoming=True) as there:
        here.life.resume()
        here.ram.write(HOLE.stop + PAGE, b"first")
        here.moves.wishes.set_parameters(Parameters(max_bandwidth=200_000, downtime_limit=0))
        send(here, there)
        until(lambda: there.ram.read(HOLE.stop + PAGE, 5) == b"first")
        here.ram.write(HOLE.stop + PAGE, b"later")
        here.moves.wishes.set_parameters(Parameters(max_bandwidth=1 << 40, downtime_limit=1000))
        until(lambda: status(there) == "completed")
        assert there.ram.read(HOLE.stop + PAGE, 5) == b"later"
        assert counter(there) == counter(here) > 0


def test_one_that_writes_faster_than_it_is_carried_says_so_until_more_is_allowed(here: Machine, there: Machine) -> None:
    here.moves.wishes.set_parameters(Parameters(max_bandwidth=2_000_000, downtime_limit=10))
    send(here, there)
    until(lambda: dirty_rate(here) > 100)
    until(lambda: cast(int, here.moves.carrier.describe()["expected-downtime"]) > 10)
    assert here.life.state is RunState.RUNNING
    here.moves.wishes.set_parameters(Parameters(downtime_limit=5000))
    until(lambda: status(here) == "completed")


def test_before_the_last_of_it_somebody_may_have_something_to_do(here: Machine, there: Machine) -> None:
    here.moves.wishes.set_capabilities(Capabilities([Capability("pause-before-switchover", True)]))
    send(here, there)
    until(lambda: status(here) == "pre-switchover")
    assert here.life.state is RunState.PAUSED
    with pytest.raises(MonitorError, match="sent to another host"):
        here.life.resume()
    assert status(there) == "active"
    here.moves.go_on()
    until(lambda: status(there) == "completed")


def test_one_that_is_cancelled_goes_on_and_can_be_tried_again(here: Machine, there: Machine) -> None:
    here.moves.wishes.set_parameters(Parameters(max_bandwidth=1, downtime_limit=0))
    send(here, there)
    with pytest.raises(MonitorError, match="in progress"), closing(socket.socketpair()[0]) as unused:
        here.moves.send(os.dup(unused.fileno()))
    here.moves.carrier.cancel()
    until(lambda: status(here) == "cancelled")
    assert here.life.state is RunState.RUNNING
    until(lambda: status(there) == "failed")
    assert there.life.state is RunState.INMIGRATE
    there.life.serve()  # it is over: nothing can become of it
    here.moves.wishes.set_parameters(Parameters(max_bandwidth=1 << 40, downtime_limit=1000))
    with a_machine(is_incoming=True) as another:
        send(here, another)
        until(lambda: status(another) == "completed")


def test_one_that_was_sent_and_is_not_wanted_goes_on(here: Machine, there: Machine) -> None:
    send(here, there)
    until(lambda: status(here) == "completed")
    before = counter(here)
    here.moves.carrier.cancel()
    here.life.resume()
    until(lambda: counter(here) > before)


def test_another_size_of_memory_is_refused_and_it_goes_on(here: Machine) -> None:
    with a_machine(is_incoming=True, memory=2 * MEMORY) as there:
        send(here, there)
        until(lambda: status(here) == "failed")
        here.life.resume()
        assert here.life.state is RunState.RUNNING
        assert "bytes of memory comes in" in str(there.moves.carrier.describe()["error-desc"])


def test_one_that_waits_for_nobody_takes_nobody(here: Machine) -> None:
    with pytest.raises(MonitorError, match="does not wait"):
        here.moves.take(socket.socketpair()[0])
