"""The agent dies; guests do not."""

from __future__ import annotations

import os
import signal
import time

import pytest

from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from sandbox.node import Node
from tests.functional.guests import Guests, an_order, until

SERVING_SECONDS = 2.0
"""From the start of the agent's process until it answers about the guest."""


def test_a_guest_does_not_notice_that_the_agent_was_killed(guests: Guests, node: Node) -> None:
    instance = guests.boot(an_order(arguments="counter"))
    before, pid = guests.counter(instance.uuid), guests.view(instance.uuid).pid
    node.kill()
    began = time.monotonic()
    node.start()
    view = guests.view(instance.uuid)
    took = time.monotonic() - began
    print(f"managed again {took:.2f} s after the start of the agent")
    assert (view.vm_state, view.power_state, view.pid) == (VmState.ACTIVE, PowerState.RUNNING, pid)
    until(lambda: guests.counter(instance.uuid) > before + 5)
    counts = guests.counts(instance.uuid)
    assert counts == list(range(counts[0], counts[0] + len(counts)))
    assert took < SERVING_SECONDS * 3  # a loaded machine; the bench prints the true figure
    guests.finish(guests.client.stop_instance(instance.uuid, timeout=30))


def test_a_clean_stop_of_the_agent_touches_no_guest(guests: Guests, node: Node) -> None:
    instance = guests.boot()
    pid = guests.view(instance.uuid).pid
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < 15
    assert node.qemu_pids() == [pid]
    node.start()
    assert guests.view(instance.uuid).pid == pid


def test_a_guest_that_is_killed_is_seen_at_once(guests: Guests) -> None:
    instance = guests.boot()
    os.kill(guests.view(instance.uuid).pid or 0, signal.SIGKILL)
    until(lambda: guests.view(instance.uuid).vm_state is VmState.STOPPED, 5)
    view = guests.view(instance.uuid)
    assert view.power_state is PowerState.CRASHED
    assert view.fault is not None
    assert "SIGKILL" in view.fault.message
    guests.finish(guests.client.start_instance(instance.uuid))
    assert guests.view(instance.uuid).fault is None


@pytest.mark.parametrize("ending", ["killed", "powered off"])
def test_a_guest_that_ended_while_no_agent_was_there(guests: Guests, node: Node, ending: str) -> None:
    instance = guests.boot(an_order(arguments="" if ending == "killed" else "poweroff_after=3"))
    pid = guests.view(instance.uuid).pid or 0
    node.kill()
    if ending == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        time.sleep(4)  # the guest counts its own three seconds; nobody is there to be asked
    node.start()
    until(lambda: guests.view(instance.uuid).vm_state is VmState.STOPPED)
    expected = PowerState.CRASHED if ending == "killed" else PowerState.SHUTDOWN
    assert guests.view(instance.uuid).power_state is expected
    assert node.qemu_pids() == []


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.2])
def test_a_boot_that_the_agent_died_in_is_finished(guests: Guests, node: Node, moment: float) -> None:
    order = an_order()
    accepted = guests.client.build_and_run_instance(order)
    time.sleep(moment)  # any moment will do; the unit tests take them all
    node.kill()
    node.start()
    operation = guests.client.wait(accepted.request_id, 60)
    assert operation.state is OperationState.DONE, operation.fault
    guests.await_console(order.uuid, "GUEST READY")
    assert len(node.qemu_pids()) == 1
