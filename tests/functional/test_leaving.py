"""Instances leave a host: more of them than may at once, or with ports that are bound in another way there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.migration import PortBinding
from compute_agent.instance.model import PortDetails
from compute_agent.instance.view import OperationView
from sandbox import audit
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, until

AT_ONCE = 2


@pytest.fixture
def hosts(directory: Path, broker: Broker, switch: Switch) -> Iterator[tuple[Guests, Guests]]:
    """What one of them has left fails the test."""
    paths = {name: directory / name for name in ("many-a", "many-b")}
    nodes = [Node(path, broker.transport_url, switch.connection, host=name) for name, path in paths.items()]
    with nodes[0], nodes[1]:
        yield Guests(nodes[0]), Guests(nodes[1])
        for node in nodes:
            Guests(node).terminate_all()
        for node in nodes:
            assert audit.leftovers(node, switch) == []


@contextmanager
def silent(node: Node) -> Iterator[None]:
    """Its agent does not answer."""
    assert node.pid is not None
    os.kill(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


def stage_of(view: OperationView) -> str | None:
    return view.details.stage if view.details else None


def test_more_of_them_wait_for_their_turn_also_beyond_the_agents_death(hosts: tuple[Guests, Guests]) -> None:
    here, there = hosts
    orders = [here.boot(an_order(ports=0, config_drive=False)) for _ in range(AT_ONCE + 2)]
    for order in orders:
        here.finish(here.client.stop_instance(order.uuid, timeout=0))
    with silent(there.node):
        moves = [here.client.migrate_instance(order.uuid, there.node.host).request_id for order in orders]
        until(lambda: [stage_of(here.client.get_operation(one)) for one in moves[AT_ONCE:]] == ["turn", "turn"])
        here.node.kill()
        here.node.start()
        for one in moves[AT_ONCE:]:
            (step,) = here.client.get_operation(one).steps
            assert (step.name, step.state) == ("await_turn", "intended")
        here.client.live_migration_abort(orders[-1].uuid)
        until(lambda: here.client.get_operation(moves[-1]).state == "failed")
        assert "somebody wished so" in str(here.client.get_operation(moves[-1]).fault)
    for one in moves[:-1]:
        until(lambda one=one: here.client.get_operation(one).state == "done")  # type: ignore[misc]
    assert [view.instance.uuid for view in here.client.list_instances()] == [orders[-1].uuid]
    for order in orders[:-1]:
        there.finish(there.client.start_instance(order.uuid))


def test_its_ports_are_bound_there_in_another_way(hosts: tuple[Guests, Guests], switch: Switch) -> None:
    here, there = hosts
    switch.add_bridge("br-there")
    order = here.boot(an_order(config_drive=False))
    (port,) = order.ports
    tap, details = f"tap{port.id[:11]}", PortDetails(bridge_name="br-there", vlan=7)
    with pytest.raises(InvalidMessage, match=rf"bindings\[0\].port_id.*{order.uuid}"):
        wrong = PortBinding(port_id=order.uuid, details=details)
        here.client.migrate_instance(order.uuid, there.node.host, stop=True, bindings=[wrong])
    here.finish(here.client.stop_instance(order.uuid, timeout=0))
    binding = PortBinding(port_id=port.id, details=details)
    here.finish(here.client.migrate_instance(order.uuid, there.node.host, bindings=[binding]))
    there.finish(there.client.start_instance(order.uuid))
    assert [one.details for one in there.view(order.uuid).instance.ports] == [details]
    assert switch.ports("br-there") == [tap]
    assert switch.vsctl("get", "port", tap, "tag").strip() == "7"
    back = PortBinding(port_id=port.id, details=port.details)
    there.finish(there.client.stop_instance(order.uuid, timeout=0))
    there.finish(there.client.migrate_instance(order.uuid, here.node.host, bindings=[back]))
    here.finish(here.client.start_instance(order.uuid))
    assert switch.ports("br-there") == [] and tap in switch.ports("br-int")
