"""Decides, before anything happens, whether a request is taken; and makes it durable if it is."""

from __future__ import annotations

import msgspec

from compute_agent.agent.arrivals import (
    POST,
    PRE,
    ROLL_BACK,
    START,
    add_mover,
    become_owner,
    check_mover,
    mover_of,
    require_arrived,
    require_files,
    require_incoming,
)
from compute_agent.agent.evacuees import EVACUATE, add_evacuee, check_evacuee, evacuee_of
from compute_agent.agent.execution import check_state
from compute_agent.agent.node import Node
from compute_agent.agent.operations import operation_of
from compute_agent.agent.operations.departure import check_bindings
from compute_agent.agent.operations.interfaces import check_interface, ordered_port, refuse_ports_in_use
from compute_agent.agent.operations.volumes import check_disk, ordered_device
from compute_agent.agent.request import Request
from compute_agent.errors import (
    ComputeAgentError,
    HostInMaintenance,
    InstanceExists,
    InsufficientResources,
    InvalidMessage,
    RequestMismatch,
)
from compute_agent.host.resources import cpu_count, memory_mb
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.instance.migration import Mover
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.record import InstanceRecord


def admit(node: Node, request: Request) -> bool:
    """True: the request is new and durable now. False: it was accepted before.

    :raises ComputeAgentError: it is refused, and nothing has changed.
    """
    if _known(node, request):
        return False
    try:
        _check_early(node, request)
    except ComputeAgentError:
        if _known(node, request):  # twice at once: the other has got what this one would need
            return False
        raise
    with node.journal.transaction():
        if _known(node, request):  # twice at once
            return False
        _take(node, request)
        node.journal.add_operation(request)
    return True


def check_incoming(node: Node, mover: Mover) -> None:
    """The guest of another host can come here.

    :raises ComputeAgentError: it cannot; names why.
    """
    check_mover(node, mover)
    devices = [msgspec.structs.replace(device, layers=()) for device in mover.instance.block_devices]
    _check_order(node, msgspec.structs.replace(mover.instance, block_devices=devices))  # nobody orders layers


def _take(node: Node, request: Request) -> None:
    """Part of the transaction that is open."""
    if request.instance is not None:
        _add_instance(node, request.instance)
    elif request.operation == PRE:
        _refuse_in_maintenance(node)
        refuse_ports_in_use(node, _by_field(mover_of(request).instance))
        add_mover(node, request)
    elif request.operation == EVACUATE:
        _refuse_in_maintenance(node)
        refuse_ports_in_use(node, _by_field(evacuee_of(request).instance))
        add_evacuee(node, request)
    elif request.operation == POST:
        become_owner(node, request)
    elif request.operation in (START, ROLL_BACK):
        require_incoming(node, request.instance_uuid, str(request.arguments["migration"]))
    else:
        _check_instance(node, request)


def _known(node: Node, request: Request) -> bool:
    row = node.journal.find_operation(request.request_id)
    if row is not None and row.digest != request.digest():
        raise RequestMismatch(request.request_id)
    return row is not None


def _check_early(node: Node, request: Request) -> None:
    """What can be known to be impossible now is refused now, not after a download."""
    if request.instance is not None:
        _check_order(node, request.instance)
    elif request.operation == PRE:
        check_incoming(node, mover_of(request))
    elif request.operation == EVACUATE:
        evacuee = evacuee_of(request)
        _check_order(node, evacuee.instance)
        check_evacuee(node, evacuee)
    elif request.operation == POST:
        require_arrived(node, request)
    elif request.operation == "attach_volume":
        node.journal.instance(request.instance_uuid)
        _check_volume(node, ordered_device(request.arguments))
    elif request.operation == START:
        require_files(node, request)
    elif request.operation == "attach_interface" and not node.journal.unfinished(request.instance_uuid):
        _check_instance(node, request)  # who has a port is told rather than that somebody holds its tap
        node.network.check({"port": ordered_port(request.arguments)})


def _check_order(node: Node, instance: Instance) -> None:
    _refuse_in_maintenance(node)
    _refuse_uuid_in_use(node, instance.uuid)
    _check_flavor(instance.flavor, node.settings.cpu_allocation_ratio)
    node.storage.check(instance)
    node.network.check(_by_field(instance))
    node.hypervisor.check(instance)


def _by_field(instance: Instance) -> dict[str, Port]:
    return {f"instance.ports[{index}]": port for index, port in enumerate(instance.ports)}


def _check_flavor(flavor: Flavor, vcpus_a_cpu: float) -> None:
    if flavor.vcpus > cpu_count() * vcpus_a_cpu:
        raise InsufficientResources(
            f"instance.flavor.vcpus: {flavor.vcpus} wanted, this host has {cpu_count()} CPUs"
            f" (cpu_allocation_ratio {vcpus_a_cpu:g})"
        )
    if flavor.memory_mb > memory_mb():
        raise InsufficientResources(
            f"instance.flavor.memory_mb: {flavor.memory_mb} MiB wanted, this host has {memory_mb()} MiB"
        )
    read_extra_specs(flavor.extra_specs)


def _add_instance(node: Node, instance: Instance) -> None:
    _refuse_in_maintenance(node)
    _refuse_uuid_in_use(node, instance.uuid)
    refuse_ports_in_use(node, _by_field(instance))
    node.journal.add_instance(InstanceRecord(instance=with_named_devices(instance)))


def _refuse_in_maintenance(node: Node) -> None:
    if node.journal.maintenance_since() is not None:
        raise HostInMaintenance(node.settings.host)


def _refuse_uuid_in_use(node: Node, uuid: str) -> None:
    if uuid in node.journal.instance_uuids():
        raise InstanceExists(uuid)


def _check_instance(node: Node, request: Request) -> None:
    """The instance must be there; its state counts now only if nothing that may change it comes first."""
    row = node.journal.instance(request.instance_uuid)
    if not node.journal.unfinished(request.instance_uuid):
        check_state(operation_of(request, row.vm_state), row.record, row.vm_state)
        check_disk(request, row.record.instance)
        check_interface(node, request, row.record)
        check_bindings(request, row.record.instance)


def _check_volume(node: Node, device: BlockDevice) -> None:
    if device.source_type == "image":
        raise InvalidMessage("block_device.source_type", "image", "an image can only be booted from")
    if device.volume_id is None:
        raise InvalidMessage("block_device.volume_id", None, "is needed: it names the disk from now on")
    node.storage.check_device("block_device", device)
