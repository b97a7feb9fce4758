"""The agent's clock jumps by a year, back and forth: whatever runs, and whatever waits, goes on as if it had not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.state import PowerState, VmState
from sandbox import audit
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, a_port, an_order, until
from tests.functional.load import idle_instances
from tests.functional.test_broker_death import listening

PROGRAM = Path(__file__).with_name("jumping_agent.py")
YEAR = 365 * 24 * 3600.0
JUMPS = (YEAR, -YEAR, 0.0)
TIMEOUT = 4.0
"""Seconds that a guest gets to shut down, which it does not do."""


class Clock:
    """Of the agents of a node."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jump(0.0)
        self.program = [sys.executable, str(PROGRAM), str(path)]
        """What a `Node` has to run."""

    def jump(self, to: float) -> None:
        """So many seconds later than it is."""
        part = self._path.with_suffix(".part")
        part.write_text(str(to))
        part.rename(self._path)


@pytest.fixture(scope="module")
def clock(directory: Path) -> Clock:
    return Clock(directory / "clock")


@pytest.fixture(scope="module")
def node(directory: Path, clock: Clock, broker: Broker, switch: Switch) -> Iterator[Node]:
    node = Node(directory / "jumps", broker.transport_url, switch.connection, host="jumps")
    node.program = clock.program
    with node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


@pytest.mark.parametrize("to", JUMPS)
def test_what_is_under_way_takes_as_long_as_ever(node: Node, guests: Guests, clock: Clock, to: float) -> None:
    (deaf,) = idle_instances(node, 1)
    guests.finish(guests.client.build_and_run_instance(deaf))
    began = time.monotonic()
    stopping = guests.client.stop_instance(deaf.uuid, timeout=TIMEOUT)
    until(lambda: guests.client.get_operation(stopping.request_id).steps)
    clock.jump(to)
    guests.finish(stopping)
    assert TIMEOUT <= time.monotonic() - began < 3 * TIMEOUT


@pytest.mark.parametrize("to", JUMPS)
def test_what_comes_is_done_and_told(guests: Guests, broker: Broker, clock: Clock, to: float) -> None:
    guest, port = guests.boot(an_order(arguments="counter")), a_port()
    clock.jump(to)
    with listening(broker) as heard:
        asked = [
            guests.client.pause_instance(guest.uuid),
            guests.client.unpause_instance(guest.uuid),
            guests.client.attach_interface(guest.uuid, port),
            guests.client.detach_interface(guest.uuid, port.id),
            guests.client.suspend_instance(guest.uuid),
            guests.client.resume_instance(guest.uuid),
        ]
        views = [guests.finish(accepted) for accepted in asked]
        ids = {accepted.request_id for accepted in asked}
        until(lambda: ids == {one.payload["request_id"] for one in [*heard] if one.event_type.endswith(".end")} & ids)
    assert all(abs((view.finished_at or 0) - time.time() - to) < 300 for view in views), "the clock did jump"
    counted = guests.counter(guest.uuid)
    until(lambda: guests.counter(guest.uuid) > counted)


def test_a_new_agent_finds_what_the_last_one_left_in_another_year(node: Node, guests: Guests, clock: Clock) -> None:
    clock.jump(0.0)
    guest = guests.boot(an_order(arguments="counter"))
    (stopped,) = idle_instances(node, 1)
    guests.finish(guests.client.build_and_run_instance(stopped))
    guests.finish(guests.client.stop_instance(stopped.uuid, timeout=0))
    images, pid = {one.checksum for one in guests.client.list_images()}, guests.view(guest.uuid).pid
    for to in JUMPS:
        operations = [one.request_id for one in guests.client.list_operations()]
        node.kill()
        clock.jump(to)
        node.start()
        assert [one.request_id for one in guests.client.list_operations()] == operations, "in the same order"
        assert guests.client.reconcile() == guests.client.reconcile() == []
        assert {one.checksum for one in guests.client.list_images()} == images
        until(lambda: guests.view(guest.uuid).power_state is PowerState.RUNNING)
        assert guests.view(guest.uuid).pid == pid
        guests.finish(guests.client.start_instance(stopped.uuid))
        guests.finish(guests.client.stop_instance(stopped.uuid, timeout=0))
        assert guests.view(stopped.uuid).vm_state is VmState.STOPPED
