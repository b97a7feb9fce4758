"""Guests that move to other hosts: what a controller orders, and what agents say to each other about it."""

from __future__ import annotations

from msgspec import field

from compute_agent.instance.migration import Evacuee, HostName, Mover, PortBindings
from compute_agent.instance.wire import Uuid
from compute_agent.rpc.messages.base import InstanceChange, Message


class LiveMigration(InstanceChange, frozen=True):
    """Move a running guest to the host `dest`, with all disks of its own; this host has nothing of it afterwards.

    `bindings` are of ports that are bound there in another way than here.
    """

    dest: HostName
    bindings: PortBindings = field(default_factory=list)


class MigrateInstance(InstanceChange, frozen=True):
    """Move a stopped instance to the host `dest`, with all disks of its own; this host has nothing of it afterwards.

    With `stop`, one that runs is shut down when all is ready for it there, and started there at the end. `bindings` are
    of ports that are bound there in another way than here.
    """

    dest: HostName
    bindings: PortBindings = field(default_factory=list)
    stop: bool = False


class LiveMigrationAbort(Message, frozen=True):
    """Have the guest, running or not, stay where it is. Refused once the destination has been asked to take it over."""

    instance_uuid: Uuid


class LiveMigrationForceComplete(Message, frozen=True):
    """Pause the guest until it is there, however fast it writes to its memory."""

    instance_uuid: Uuid


class EvacuateInstance(InstanceChange, frozen=True):
    """Take an instance from a host that is dead: all its disks are in Ceph, and that host is kept from writing to them.

    The instance is stopped here afterwards, with all that was written; `start_instance` starts it. Refused with
    MigrationRefused where a disk exists on the dead host only. A host that comes back finds on the disks that the epoch
    it knows is lower, and clears away what it has of the instance.
    """

    evacuee: Evacuee


class CheckCanLiveMigrateDestination(Message, frozen=True):
    """Between agents: say whether the guest can come here; MigrationRefused names what is missing."""

    mover: Mover


class PreLiveMigration(InstanceChange, frozen=True):
    """Between agents: have everything ready for the guest. `migration` is the `request_id` of the `live_migration`."""

    migration: Uuid
    mover: Mover


class GetIncoming(Message, frozen=True):
    """Between agents: open what the guest comes in by."""

    instance_uuid: Uuid
    migration: Uuid


class StartAtDestination(InstanceChange, frozen=True):
    """Between agents: start what waits for the guest, of whose disks the files that it only reads are there now."""

    migration: Uuid


class PostLiveMigrationAtDestination(InstanceChange, frozen=True):
    """Between agents: own the guest from now on. Whoever is answered MigrationRefused owns it himself."""

    migration: Uuid


class RollbackLiveMigrationAtDestination(InstanceChange, frozen=True):
    """Between agents: let go of all that was made ready."""

    migration: Uuid


MESSAGES: tuple[type[Message], ...] = (
    LiveMigration,
    MigrateInstance,
    LiveMigrationAbort,
    LiveMigrationForceComplete,
    EvacuateInstance,
    CheckCanLiveMigrateDestination,
    PreLiveMigration,
    GetIncoming,
    StartAtDestination,
    PostLiveMigrationAtDestination,
    RollbackLiveMigrationAtDestination,
)
