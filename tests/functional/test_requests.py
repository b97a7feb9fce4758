"""A request runs once, and its outcome reaches the controller."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from compute_agent.errors import RequestMismatch
from compute_agent.instance.state import VmState
from compute_agent.rpc.notifications import listen
from compute_agent.rpc.transport import connect
from sandbox.broker import Broker
from sandbox.node import Node
from tests.functional.guests import Guests, an_order


def test_the_same_boot_twenty_times_at_once_boots_one_guest(guests: Guests, node: Node) -> None:
    order, request_id = an_order(), str(uuid.uuid4())
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: guests.client.build_and_run_instance(order, request_id=request_id), range(20))
        )
    assert answers == [answers[0]] * 20
    guests.finish(answers[0])
    guests.await_console(order.uuid, "GUEST READY")
    assert guests.console(order.uuid).count("GUEST READY") == 1
    assert len(node.qemu_pids()) == 1
    assert len(guests.client.list_operations(order.uuid)) == 1


def test_a_request_id_used_for_something_else_is_refused(guests: Guests) -> None:
    order, request_id = an_order(), str(uuid.uuid4())
    guests.finish(guests.client.build_and_run_instance(order, request_id=request_id))
    with pytest.raises(RequestMismatch, match=request_id):
        guests.client.terminate_instance(order.uuid, request_id=request_id)
    assert guests.view(order.uuid).vm_state is VmState.ACTIVE


def test_a_request_repeated_after_a_restart_of_the_agent_starts_nothing(guests: Guests, node: Node) -> None:
    order, request_id = an_order(), str(uuid.uuid4())
    first = guests.client.build_and_run_instance(order, request_id=request_id)
    guests.finish(first)
    pids = node.qemu_pids()
    node.restart()
    assert guests.client.build_and_run_instance(order, request_id=request_id) == first
    assert node.qemu_pids() == pids


def test_every_operation_is_notified_from_start_to_end(guests: Guests, broker: Broker) -> None:
    heard: SimpleQueue[tuple[str, dict[str, object]]] = SimpleQueue()
    listener = listen(connect(broker.transport_url), lambda one: heard.put((one.event_type, one.payload)))
    try:
        order = an_order()
        guests.finish(guests.client.build_and_run_instance(order))
        image_id = str(uuid.uuid4())
        guests.finish(guests.client.snapshot_instance(order.uuid, image_id))
        guests.client.delete_snapshot(image_id)
        guests.finish(guests.client.terminate_instance(order.uuid))
        events = []
        while not events or events[-1] != "compute.instance.terminate.end":
            event, payload = heard.get(timeout=20)
            if payload["instance_uuid"] == order.uuid:
                events.append(event)
        assert events[0] == "compute.instance.boot.start"
        assert events.count("compute.instance.boot.end") == 1
        assert {"compute.instance.boot.progress", "compute.instance.snapshot.progress"} <= set(events)
        assert "compute.instance.terminate.start" in events
    finally:
        listener.stop()
        listener.wait()
