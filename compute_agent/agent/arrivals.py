"""Guests that come from other hosts: who may, and the one moment in which such a guest becomes this host's.

That moment is the transaction that accepts ``post_live_migration_at_destination``. Before it the other host owns the
guest, whatever becomes of either agent; after it this one does.
"""

from __future__ import annotations

import logging
import time

import msgspec

from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.errors import (
    ComputeAgentError,
    DeadlineExceeded,
    GuestGone,
    InstanceExists,
    InvalidMessage,
    MigrationRefused,
    OperationNotFound,
)
from compute_agent.instance.migration import Incoming, Mover
from compute_agent.instance.model import Instance
from compute_agent.instance.preparation import prepare
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import VmState
from compute_agent.instance.view import OperationState
from compute_agent.virt.contract import Guest
from compute_agent.virt.placement import names_beside_disks

LOG = logging.getLogger(__name__)

prepare(Mover)

COMPLETE_WITHIN, _LOOK_AGAIN = 5.0, 0.002
"""Seconds."""

_OPERATIONS = 100
"""Latest ones of an instance, among which is the one that began what another one has just ended."""

PRE, POST = "pre_live_migration", "post_live_migration_at_destination"
READABLE = "it is encrypted, and could be read on its way"
START, ROLL_BACK = "start_at_destination", "rollback_live_migration_at_destination"


def check_mover(node: Node, mover: Mover) -> None:
    """What is particular to a guest that moves; it is an order as well.

    :raises MigrationRefused: names what is missing here.
    :raises InvalidMessage: its machine is not this instance's.
    :raises InstanceExists: the instance is here.
    """
    if mover.instance.uuid in node.journal.instance_uuids():
        raise InstanceExists(mover.instance.uuid)
    if node.find_guest(mover.instance.uuid) is not None:
        raise MigrationRefused("instance", "a guest that it had here before has not been cleared away yet")
    _require_places(mover)
    node.hypervisor.check_incoming(mover.machine, mover.facts, post_copy=mover.post_copy)
    if list(node.storage.moves.mirrored(mover.instance)) != mover.mirrored:
        raise MigrationRefused("disks", "here, others of them would exist on one host only")
    if mover.encrypted and not node.settings.migration.encrypt:
        raise MigrationRefused(mover.encrypted[0], f"{READABLE}, with [migration] encrypt off here")
    node.storage.moves.require_shared(mover)


def _require_places(mover: Mover) -> None:
    """:raises InvalidMessage: it has a device for which its machine has no place."""
    disks = [str(disk.device_name) for disk in mover.instance.block_devices if disk.disk_bus != "scsi"]
    for name in disks + names_beside_disks(mover.instance):
        if name not in mover.machine.slots:
            raise InvalidMessage("mover.machine.slots", name, "has no place for this device")


def mover_of(request: Request) -> Mover:
    """The guest that a ``pre_live_migration`` announces.

    :raises InvalidMessage: the request names another.
    """
    mover = msgspec.convert(request.arguments["mover"], Mover)
    if mover.instance.uuid != request.instance_uuid:
        raise InvalidMessage("mover.instance.uuid", mover.instance.uuid, "is not instance_uuid")
    return mover


def add_mover(node: Node, request: Request) -> None:
    """It is known here, and another host's. Part of the transaction that is open."""
    mover = mover_of(request)
    if mover.instance.uuid in node.journal.instance_uuids():
        raise InstanceExists(mover.instance.uuid)
    incoming = _incoming_of(request)
    record = InstanceRecord(instance=mover.instance, machine=mover.machine, epoch=mover.epoch, incoming=incoming)
    node.journal.add_instance(record, VmState.INCOMING)


def _incoming_of(request: Request) -> Incoming:
    mover = mover_of(request)
    return Incoming(
        migration=str(request.arguments["migration"]),
        source=mover.source,
        address=mover.address,
        mirrored=mover.mirrored,
        is_stopped=mover.is_stopped,
    )


def rest_of(node: Node, instance_uuid: str, migration: str) -> Incoming:
    """How a guest came that has become this host's, and waits for the rest of its memory.

    :raises MigrationRefused: it did not come by this migration, or waits for nothing.
    """
    unfinished = [row.request for row in node.journal.unfinished(instance_uuid)]
    if any(one.operation == POST and one.arguments["migration"] == migration for one in unfinished):
        for row in node.journal.operations(instance_uuid, _OPERATIONS):
            if row.request.operation == PRE and row.request.arguments["migration"] == migration:
                return _incoming_of(row.request)
    raise MigrationRefused("migration", "the instance is this host's, and nothing of it is missing")


def require_arrived(node: Node, request: Request) -> None:
    """All of the guest is here.

    :raises InstanceNotFound, MigrationRefused: and never will be.
    :raises DeadlineExceeded: not yet, or its process does not answer.
    """
    record, incoming = _require_incoming(node, request.instance_uuid, str(request.arguments["migration"]))
    if incoming.is_stopped:
        files = node.storage.moves.files
        if not files.has_all(record.instance, files.all_of(record.instance, incoming.mirrored)):
            raise MigrationRefused("disks", "they have not all come in")
        return
    guest = node.find_guest(request.instance_uuid)
    try:
        if guest is not None:
            _await_completion(guest)
            return
    except GuestGone as error:
        LOG.warning("Guest %s does not come in: %s", request.instance_uuid, error)
    raise MigrationRefused("guest", "its process here has ended")


def awaits_files(node: Node, instance: Instance, incoming: Incoming) -> bool:
    """What it has to have before a process can wait for its memory has not been taken yet."""
    lower = node.storage.moves.files.lower_of(instance, incoming.mirrored)
    return bool(lower) and node.find_guest(instance.uuid) is None


def require_files(node: Node, request: Request) -> None:
    """All that it only reads is here.

    :raises InstanceNotFound, MigrationRefused: it does not come by this migration, or not all has come in.
    """
    record, incoming = _require_incoming(node, request.instance_uuid, str(request.arguments["migration"]))
    files = node.storage.moves.files
    if not files.has_all(record.instance, files.lower_of(record.instance, incoming.mirrored)):
        raise MigrationRefused("disks", "they have not all come in")


def _await_completion(guest: Guest) -> None:
    """The last of it comes in a moment after the other host has sent it; whoever asks has nothing else to wait for."""
    due = time.monotonic() + COMPLETE_WITHIN
    while not guest.incoming.is_complete():
        if time.monotonic() > due:
            raise DeadlineExceeded("its memory has not all come in yet")
        time.sleep(_LOOK_AGAIN)


def become_owner(node: Node, request: Request) -> None:
    """The guest is this host's from now on. Part of the transaction that accepts the request, which is the moment.

    :raises InstanceNotFound, MigrationRefused: it never will be.
    :raises DeadlineExceeded: it is not prepared yet.
    """
    record, incoming = _require_incoming(node, request.instance_uuid, str(request.arguments["migration"]))
    unfinished = {row.request.operation for row in node.journal.unfinished(request.instance_uuid)}
    if ROLL_BACK in unfinished:
        raise MigrationRefused("migration", "it is being rolled back")
    if unfinished:
        raise DeadlineExceeded("it is not prepared yet")
    node.journal.set_record(msgspec.structs.replace(record, epoch=record.epoch + 1, incoming=None))
    state = VmState.STOPPED if incoming.is_stopped else VmState.PAUSED
    node.journal.set_state(request.instance_uuid, state, None)


def require_incoming(node: Node, instance_uuid: str, migration: str) -> Incoming:
    """By that very migration: a late message of an earlier one must not touch a guest that is only half here.

    :raises InstanceNotFound: no such instance.
    :raises MigrationRefused: it comes by another one, or by none any more.
    """
    return _require_incoming(node, instance_uuid, migration)[1]


def is_given_up(node: Node, incoming: Incoming) -> bool:
    """The host that the guest comes from says that it does not come; False where that is not known.

    A host that knows nothing of the migration has never handed anything over by it, and never will.
    """
    try:
        view = node.peers(incoming.source).get_operation(incoming.migration)
    except OperationNotFound:
        return True
    except ComputeAgentError as error:
        LOG.warning("It is not known whether a guest comes from %s: %s", incoming.source, error)
        return False
    return view.state is OperationState.FAILED


def _require_incoming(node: Node, instance_uuid: str, migration: str) -> tuple[InstanceRecord, Incoming]:
    record = node.journal.instance(instance_uuid).record
    incoming = record.incoming
    if incoming is None:
        raise MigrationRefused("migration", "the instance is this host's")
    if incoming.migration != migration:
        raise MigrationRefused("migration", f"the guest comes in by another one, {incoming.migration}")
    return record, incoming
