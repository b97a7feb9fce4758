"""attach_interface and detach_interface: a port comes to an instance, or goes, whether or not its guest runs.

The record names the port before anything is done with it, and forgets it after all is done; so it has every port that a
guest may have. A tap lives as long as somebody holds it: an agent that dies before the guest has it takes it along, and
the next one makes another.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from compute_agent.agent.node import Node
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.request import Request
from compute_agent.agent.work import Work
from compute_agent.errors import DetachRefused, InvalidMessage
from compute_agent.instance.device_names import find_port, with_named_devices
from compute_agent.instance.model import MOST_PORTS, Instance, Port
from compute_agent.instance.port_checks import check_port
from compute_agent.instance.preparation import prepare
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import VmState

prepare(Port)

_STATES = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED})
_FIELD = "port"


def check_interface(node: Node, request: Request, record: InstanceRecord) -> None:
    """Whether a request about a port, its instance and this node fit together.

    :raises InvalidMessage: there is no such port, or one already, or no place for it; names it.
    """
    if request.operation == "attach_interface":
        _with_port(node, record, ordered_port(request.arguments))
    elif request.operation == "detach_interface":
        _require_port(record.instance, str(request.arguments["port_id"]))


def ordered_port(arguments: Mapping[str, object]) -> Port:
    """The port that an attach_interface asks for."""
    return msgspec.convert(arguments["port"], Port)


def refuse_ports_in_use(node: Node, ports: Mapping[str, Port]) -> None:
    """A port is one instance's; `ports` are by the fields that they are ordered in.

    :raises InvalidMessage: an instance of this node has it, or one whose interface would have the same name.
    """
    taken = {
        node.network.interface_name(port.id): (port.id, row.record.instance.uuid)
        for row in node.journal.instances()
        for port in row.record.instance.ports
    }
    for field, port in ports.items():
        name = node.network.interface_name(port.id)
        if name in taken:
            port_id, owner = taken[name]
            what = "it" if port_id == port.id else f"port {port_id}, whose interface is called {name} too"
            raise InvalidMessage(f"{field}.id", port.id, f"instance {owner} on this host has {what}")


def add_port(work: Work) -> None:
    """From here on the record has the port, its NIC's name and its place in the machine."""
    ordered = ordered_port(work.request.arguments)
    if find_port(work.instance, ordered.id) is not None:
        return  # of an agent that died in this step
    with work.node.journal.transaction():  # another instance may be about to get it, too
        record = _with_port(work.node, work.record, ordered)
        work.change_instance(record.instance, record.machine)


def forget_port(work: Work) -> None:
    """The record does not have the port any more."""
    port = _find(work)
    if port is not None:
        _require_let_go(work, port)
        machine = work.node.hypervisor.remove_device(work.machine, str(port.device_name))
        rest = [other for other in work.instance.ports if other != port]
        work.change_instance(msgspec.structs.replace(work.instance, ports=rest), machine)


def plug_port(work: Work) -> None:
    """The port of a guest that runs has a tap, on its bridge."""
    if work.node.find_guest(work.uuid) is not None:
        work.plug_port(_port(work))


def unplug_port(work: Work) -> None:
    """It is off its bridge, and without a tap."""
    port = _find(work)
    if port is not None:
        _require_let_go(work, port)
        work.close()
        work.node.network.unplug([port.id])


def attach_nic(work: Work) -> None:
    """A guest that runs gets the NIC."""
    guest, port = work.node.find_guest(work.uuid), _port(work)
    name = str(port.device_name)
    if guest is not None and not guest.has_device(name):
        guest.detach_nic(name)  # of an agent that died in this step: it would hold the tap
        guest.attach_nic(work.plug_port(port), work.machine)
        work.close()


def detach_nic(work: Work) -> None:
    """A guest that runs lets go of the NIC."""
    guest, port = work.node.find_guest(work.uuid), _find(work)
    if guest is not None and port is not None:
        guest.detach_nic(str(port.device_name))


def _require_let_go(work: Work, port: Port) -> None:
    """What the guest may still have stays in the record, and can be detached later.

    :raises DetachRefused: it has it.
    """
    guest = work.node.find_guest(work.uuid)
    if guest is not None and guest.has_device(str(port.device_name)):
        raise DetachRefused(f"{port.device_name}: the guest still has it")


def _with_port(node: Node, record: InstanceRecord, port: Port) -> InstanceRecord:
    check_port(_FIELD, port, record.instance.ports, "the instance has it already")
    refuse_ports_in_use(node, {_FIELD: port})
    if len(record.instance.ports) >= MOST_PORTS:
        raise InvalidMessage(_FIELD, port.id, f"the instance has {MOST_PORTS} ports, as many as it can have")
    instance = with_named_devices(msgspec.structs.replace(record.instance, ports=[*record.instance.ports, port]))
    machine = record.machine and node.hypervisor.add_nic(record.machine, instance.ports[-1])
    return msgspec.structs.replace(record, instance=instance, machine=machine)


def _require_port(instance: Instance, port_id: str) -> Port:
    port = find_port(instance, port_id)
    if port is None:
        raise InvalidMessage("port_id", port_id, "the instance has no such port")
    return port


def _port(work: Work) -> Port:
    return _require_port(work.instance, _port_id(work))


def _find(work: Work) -> Port | None:
    return find_port(work.instance, _port_id(work))


def _port_id(work: Work) -> str:
    arguments = work.request.arguments
    return str(arguments["port_id"]) if "port_id" in arguments else ordered_port(arguments).id


ATTACH_INTERFACE = Operation(
    name="attach_interface",
    allowed=_STATES,
    steps=(
        Step("add_port", add_port, forget_port),
        Step("plug_port", plug_port, unplug_port),
        Step("attach_nic", attach_nic, detach_nic),
    ),
    outcome="unchanged",
)

DETACH_INTERFACE = Operation(
    name="detach_interface",
    allowed=_STATES,
    steps=(
        Step("detach_nic", detach_nic),
        Step("unplug_port", unplug_port),
        Step("forget_port", forget_port),
    ),
    outcome="unchanged",
)
