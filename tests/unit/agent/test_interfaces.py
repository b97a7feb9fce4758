"""Ports that come and go: what is refused, and what happens where it is not known whether the guest has one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.request import Request
from compute_agent.errors import DeadlineExceeded, InvalidMessage, InvalidState
from compute_agent.instance.model import MOST_PORTS, Port
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from tests.unit.agent.test_crash import A_PORT_MORE, THE_PORT, live, request_for
from tests.unit.agent.world import INSTANCE, OTHER_PORT, PORT_ID, UUID, Agent, FakeGuest, World

NEIGHBOUR = msgspec.structs.replace(INSTANCE, uuid="00000000-0000-4000-8000-000000000002", ports=[])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def agent(world: World) -> Iterator[Agent]:
    agent = Agent(world)
    live(agent, "boot")
    yield agent
    agent.journal.close()


def attach(port: Port, instance_uuid: str = UUID) -> Request:
    ordered = request_for("attach_interface", {"port": msgspec.to_builtins(port)})
    return msgspec.structs.replace(ordered, instance_uuid=instance_uuid)


def boot_neighbour(agent: Agent, ports: list[Port]) -> None:
    instance = msgspec.structs.replace(NEIGHBOUR, ports=ports)
    order = msgspec.structs.replace(request_for("boot", {}), instance=instance, instance_uuid=instance.uuid)
    assert admit(agent.node, order)
    agent.carry_out(order)


def changed(**changes: object) -> Port:
    return msgspec.structs.replace(OTHER_PORT, **changes)


@pytest.mark.parametrize(
    ("port", "field", "value"),
    [
        (changed(id=PORT_ID), "port.id", PORT_ID),
        (changed(mac_address="52:54:00:00:00:01"), "port.mac_address", "52:54:00:00:00:01"),
        (changed(device_name="net0"), "port.device_name", "net0"),
        (changed(id=f"{PORT_ID[:-1]}a"), "port.id", f"{PORT_ID[:-1]}a"),
    ],
)
def test_what_the_instance_has_already_is_refused_by_name(agent: Agent, port: Port, field: str, value: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        admit(agent.node, attach(port))
    assert (refused.value.field, refused.value.value) == (field, value)
    assert agent.journal.unfinished() == []


def test_a_port_of_another_instance_is_refused_with_its_owner(agent: Agent) -> None:
    boot_neighbour(agent, [OTHER_PORT])
    with pytest.raises(InvalidMessage, match=rf"^port\.id: instance {NEIGHBOUR.uuid} on this host has it"):
        admit(agent.node, attach(OTHER_PORT))
    same_interface = changed(id=f"{OTHER_PORT.id[:-1]}a")
    with pytest.raises(InvalidMessage, match=rf"has port {OTHER_PORT.id}, whose interface is called 10000000 too"):
        admit(agent.node, attach(same_interface))


def test_an_instance_is_not_booted_with_a_port_that_another_one_has(world: World, agent: Agent) -> None:
    with pytest.raises(InvalidMessage, match=rf"^instance\.ports\[0\]\.id: instance {UUID} on this host has it"):
        boot_neighbour(agent, INSTANCE.ports)
    assert world.ports == {PORT_ID}


def test_of_two_instances_that_are_given_a_port_at_once_one_gets_it(world: World, agent: Agent) -> None:
    boot_neighbour(agent, [])
    first, second = attach(OTHER_PORT), attach(OTHER_PORT, NEIGHBOUR.uuid)
    assert admit(agent.node, first) and admit(agent.node, second)
    agent.carry_out(first)
    agent.carry_out(second)
    fault = agent.journal.operation(second.request_id).fault
    assert fault is not None and fault.message.startswith(f"port.id: instance {UUID} on this host has it")
    assert "other port" in world.left_of(UUID)
    assert agent.journal.instance(NEIGHBOUR.uuid).record.instance.ports == []


def test_there_are_only_so_many_ports(agent: Agent) -> None:
    for number in range(1, MOST_PORTS):
        request = attach(changed(id=f"{number:08x}{OTHER_PORT.id[8:]}", mac_address=f"52:54:00:00:01:{number:02x}"))
        assert admit(agent.node, request)
        agent.carry_out(request)
    with pytest.raises(InvalidMessage, match="the instance has 16 ports, as many as it can have"):
        admit(agent.node, attach(changed(id=f"ffffffff{OTHER_PORT.id[8:]}")))


def test_a_port_that_is_not_there_cannot_be_detached(agent: Agent) -> None:
    with pytest.raises(InvalidMessage, match=rf"^port_id: the instance has no such port \(got '{OTHER_PORT.id}'\)"):
        admit(agent.node, request_for("detach_interface", THE_PORT))


@pytest.mark.parametrize(("verb", "arguments"), [("attach_interface", A_PORT_MORE), ("detach_interface", THE_PORT)])
def test_the_ports_of_a_suspended_instance_stay_as_they_are(
    agent: Agent, verb: str, arguments: dict[str, object]
) -> None:
    live(agent, "suspend")
    with pytest.raises(InvalidState, match=f"is suspended: {verb} needs it to be active or paused or stopped"):
        admit(agent.node, request_for(verb, arguments))


def test_a_nic_keeps_its_name_when_others_go(agent: Agent) -> None:
    live(agent, "attach_interface")
    going = request_for("detach_interface", {"port_id": PORT_ID})
    assert admit(agent.node, going)
    agent.carry_out(going)
    record = agent.journal.instance(UUID).record
    assert [(port.id, port.device_name) for port in record.instance.ports] == [(OTHER_PORT.id, "net1")]
    assert record.machine is not None and "net1" in record.machine.slots
    assert "net0" not in record.machine.slots


def test_a_port_that_a_silent_guest_may_have_is_not_forgotten(
    world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> bool:
        raise DeadlineExceeded("the monitor did not answer")

    plug = agent.node.network.plug

    def plug_and_silence(requests: object) -> object:
        for verb in ("has_device", "attach_nic", "detach_nic"):
            monkeypatch.setattr(FakeGuest, verb, silent)
        return plug(requests)  # type: ignore[arg-type]

    monkeypatch.setattr(agent.node.network, "plug", plug_and_silence)
    live(agent, "attach_interface")
    assert agent.journal.operations(UUID, 1)[0].state is OperationState.FAILED
    assert OTHER_PORT.id in [port.id for port in agent.journal.instance(UUID).record.instance.ports]
    assert OTHER_PORT.id in world.ports
    monkeypatch.undo()
    live(agent, "detach_interface")
    assert world.ports == {PORT_ID}
    assert agent.journal.instance(UUID).vm_state is VmState.ACTIVE
