"""Instances whose hosts are dead: who may come, and how a host that comes back learns that it has lost one."""

from __future__ import annotations

import msgspec

from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.errors import InstanceExists, InvalidMessage
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.migration import Evacuee
from compute_agent.instance.preparation import prepare
from compute_agent.instance.record import InstanceRecord

prepare(Evacuee)

EVACUATE = "evacuate"


def evacuee_of(request: Request) -> Evacuee:
    """:raises InvalidMessage: the request names another instance."""
    evacuee = msgspec.convert(request.arguments["evacuee"], Evacuee)
    if evacuee.instance.uuid != request.instance_uuid:
        raise InvalidMessage("evacuee.instance.uuid", evacuee.instance.uuid, "is not instance_uuid")
    return msgspec.structs.replace(evacuee, instance=with_named_devices(evacuee.instance))


def check_evacuee(node: Node, evacuee: Evacuee) -> None:
    """What is particular to it; it is an order as well.

    :raises MigrationRefused: it cannot be taken from its host, or not to here; names why.
    """
    if evacuee.source == node.settings.host:
        raise InvalidMessage("evacuee.source", evacuee.source, "is this host, which is not dead")
    node.hypervisor.check_incoming(evacuee.machine, None)
    node.storage.moves.check_evacuation(evacuee.instance, evacuee.source, evacuee.epoch)


def add_evacuee(node: Node, request: Request) -> None:
    """It is known here. Part of the transaction that is open."""
    evacuee = evacuee_of(request)
    if evacuee.instance.uuid in node.journal.instance_uuids():
        raise InstanceExists(evacuee.instance.uuid)
    record = InstanceRecord(instance=evacuee.instance, machine=evacuee.machine, epoch=evacuee.epoch)
    node.journal.add_instance(record)


def has_lost(node: Node, record: InstanceRecord) -> bool:
    """The instance has been evacuated from here, while this host was believed dead.

    :raises StorageError, DeadlineExceeded: the cluster of its disks does not answer.
    """
    return record.incoming is None and node.storage.moves.is_lost(record.instance, record.epoch)
