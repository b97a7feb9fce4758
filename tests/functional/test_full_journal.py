"""The journal's disk is full under a load of operations, and has room again: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute_agent.errors import JournalError
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import Accepted
from sandbox import audit
from sandbox.broker import Broker
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, until
from tests.functional.load import Load, idle_instances, require_one_order
from tests.functional.operator import Operator
from tests.functional.test_broker_death import ended, listening
from tests.lifecycle import RUNNING

INSTANCES, CONTROLLERS = 8, 8
ANSWERED = 30
"""Requests between two times without room."""
TIMES = 3
CAUGHT = 3
"""Times that an operation has to wait before there is room again."""
A_WHILE = 120.0
_WAITS = "This waits"
_UNSAID = re.compile("is unreachable|closed the connection|Notifications wait: broker")
"""What the log says where the broker may have taken something and could not say so: on a busy machine it is slow."""
_BLOCK = 4096


@pytest.fixture(scope="module")
def place(directory: Path) -> Iterator[Path]:
    """Nothing but the journal is here."""
    place = directory / "full" / "state"
    place.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place)
    yield place
    run("umount", "--lazy", place)


@pytest.fixture(scope="module")
def node(directory: Path, place: Path, broker: Broker, switch: Switch) -> Iterator[Node]:
    node = Node(directory / "full", broker.transport_url, switch.connection, host="full")
    node.storage = f"disk_dir = {node.directory}/disks\nimage_dir = {node.directory}/images"
    node.virt = f"state_dir = {node.directory}/guests"
    with node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


@contextmanager
def no_room(place: Path) -> Iterator[None]:
    """Every byte of its file system is taken."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(_BLOCK))
    try:
        yield
    finally:
        filler.unlink()


def waits(node: Node) -> int:
    """How often something had to wait for the journal."""
    return node.log.read_text().count(_WAITS)


def test_what_is_under_way_waits_for_room_and_what_comes_is_refused(node: Node, place: Path, broker: Broker) -> None:
    instances = idle_instances(node, INSTANCES)
    with listening(broker) as heard:
        with Load(node, instances, str(time.time()), CONTROLLERS) as load:
            for _ in range(TIMES):
                answered = len(load.answers) + ANSWERED
                until(lambda enough=answered: len(load.answers) >= enough, A_WHILE)  # type: ignore[misc]
                before = waits(node)
                with no_room(place):
                    until(lambda enough=before + CAUGHT: waits(node) >= enough, A_WHILE)  # type: ignore[misc]
        accepted = {one.order.request_id for one in load.answers if isinstance(one.said, Accepted)}
        until(lambda: accepted <= set(ended(heard)), A_WHILE)
    require_one_order(node.client, instances, load.answers)
    assert len(node.qemu_pids()) == sum(view.vm_state in RUNNING for view in node.client.list_instances())
    told_again, log = len(ended(heard)) - len(set(ended(heard))), node.log.read_text()
    assert told_again <= len(_UNSAID.findall(log)), f"once, but where the broker could not say that it has it\n{log}"
    print(f"{TIMES} times without room: {len(load.answers)} answers, {len(accepted)} done, {waits(node)} waits")


def test_nothing_has_happened_of_what_is_refused_and_the_host_says_why(guests: Guests, place: Path) -> None:
    (order,) = idle_instances(guests.node, 1)
    guests.finish(guests.client.build_and_run_instance(order))
    operator = Operator(guests.node)
    guests.node.restart()  # while it is open, a journal keeps what room it had
    with no_room(place):
        until(lambda: guests.client.get_host()["journal_fault"])
        with pytest.raises(JournalError, match="full"):
            guests.client.pause_instance(order.uuid)
        assert "disk is full" in operator.types("host", "show").stdout
    assert guests.client.get_host()["journal_fault"] is None
    assert guests.view(order.uuid).power_state is PowerState.RUNNING
    assert [one.operation for one in guests.client.list_operations(order.uuid)] == ["boot"]


def test_a_guest_that_ends_meanwhile_is_put_away_by_whichever_agent_finds_room(guests: Guests, place: Path) -> None:
    first, second = idle_instances(guests.node, 2)
    for order in (first, second):
        guests.finish(guests.client.build_and_run_instance(order))
    guests.node.restart()
    with no_room(place):
        until(lambda: guests.client.get_host()["journal_fault"])
        before = waits(guests.node)
        os.kill(guests.view(first.uuid).pid or 0, signal.SIGKILL)
        until(lambda: waits(guests.node) > before)
        guests.node.kill()
        os.kill(guests.node.qemu_pids()[0], signal.SIGKILL)
        guests.node.start()
    for order in (first, second):
        until(lambda uuid=order.uuid: guests.view(uuid).vm_state is VmState.STOPPED)  # type: ignore[misc]
        assert [one.operation for one in guests.client.list_operations(order.uuid)] == ["guest_exit", "boot"]
