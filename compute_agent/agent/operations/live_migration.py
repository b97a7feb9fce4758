"""live_migration: a guest moves to another host while it runs, and whatever dies on the way, one of the two owns it.

Up to `hand_over` this host does: what fails is undone, and the guest goes on here. In `hand_over` it stands still until
the other host has said whether it is the owner now; without an answer it is asked again, for as long as it takes.
"""

from __future__ import annotations

import socket
import time
import uuid
from contextlib import ExitStack, suppress

from compute_agent.agent.gates import migration_address
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import forget_guest
from compute_agent.agent.operations.convergence import Convergence
from compute_agent.agent.operations.incoming import leave_disks
from compute_agent.agent.operations.steps import KILL_GUEST, UNPLUG_PORTS
from compute_agent.agent.peers import Peer
from compute_agent.agent.work import Work
from compute_agent.errors import (
    DeadlineExceeded,
    InstanceNotFound,
    InvalidMessage,
    InvalidState,
    MigrationFailed,
    MigrationRefused,
)
from compute_agent.host.listening import dial
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.migration import Mover
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from compute_agent.virt.migration import MigrationProgress

_LOOK = 1.0
"""Seconds between two looks at a migration where nothing happens."""
_ASK_AGAIN = 0.2
"""Seconds, of an operation on the other host."""
_CONNECT = 10.0


def check_destination(work: Work) -> None:
    """It would take the guest; nothing has changed there."""
    if _destination(work) == work.node.settings.host:
        raise InvalidMessage("dest", _destination(work), "the instance is there")
    _peer(work).check_can_live_migrate_destination(_mover(work))


def prepare_destination(work: Work) -> None:
    """It has disks, ports and a process that waits for the guest."""
    due = time.monotonic() + work.node.settings.migration.prepare_timeout
    while True:
        try:
            _peer(work).pre_live_migration(work.uuid, _id(work), _mover(work), request_id=_derived(work, "pre"))
            return _await_preparation(work, due)
        except DeadlineExceeded:
            _require_patience(work, due)


def _await_preparation(work: Work, due: float) -> None:
    while (view := _peer(work).get_operation(_derived(work, "pre"))).state is not OperationState.DONE:
        if view.state is OperationState.FAILED:
            raise MigrationFailed(f"{_destination(work)}: {view.fault.message if view.fault else 'it is not prepared'}")
        work.report(view.progress)
        _require_patience(work, due)
        time.sleep(_ASK_AGAIN)


def _require_patience(work: Work, due: float) -> None:
    _require_wanted(work)
    if time.monotonic() > due:
        raise MigrationFailed(f"{_destination(work)} is not prepared in time")


def roll_destination_back(work: Work) -> None:
    """It lets go of what has come in. Where it does not answer, it finds out by itself that nothing more comes."""
    with suppress(InstanceNotFound, MigrationRefused):
        _peer(work).rollback_live_migration_at_destination(work.uuid, _id(work), request_id=_derived(work, "rollback"))


def begin_copy(work: Work) -> None:
    """Disks, or memory where all disks can be reached from both hosts, are on their way."""
    outgoing = work.guest.outgoing
    outgoing.cancel()  # what an agent began that was killed
    if work.guest.status() is not PowerState.RUNNING:
        raise InvalidState(work.uuid, "live_migration", "halted by a disk or itself", "running")
    own = migration_address(work.node.settings)
    gate = _peer(work).get_incoming(work.uuid, _id(work))
    if gate.key is None and work.node.settings.migration.encrypt:
        raise MigrationFailed(f"{_destination(work)} encrypts nothing, and [migration] encrypt is on here")
    with ExitStack() as opened:
        memory = opened.enter_context(dial(gate.address, gate.memory_port, own, _CONNECT))
        disks = {}
        for name in work.node.storage.moves.mirrored(work.instance):
            assert gate.disks_port is not None
            connection = opened.enter_context(dial(gate.address, gate.disks_port, own, _CONNECT))
            disks[name] = _target(name, connection)
        outgoing.begin(memory.fileno(), disks, Convergence(work.node.settings.migration).first_pace(), gate.key)


def _target(name: str, connection: socket.socket) -> NbdSource:
    return NbdSource(export=name, fd=connection.fileno())


def copy(work: Work) -> None:
    """All of it is there, and the guest stands still here."""
    convergence = Convergence(work.node.settings.migration)
    while (progress := work.guest.outgoing.advance(_LOOK)).stage != "complete":
        work.report(progress.percent, _details(progress))
        _require_wanted(work)
        if progress.stage == "memory":
            _urge(work, convergence)
        if work.node.wishes.get(_id(work)) == "force":
            work.guest.pause()


def _urge(work: Work, convergence: Convergence) -> None:
    """Have the guest let itself be carried."""
    if not convergence.is_over():
        work.guest.outgoing.set_pace(convergence.pace())
    elif work.node.settings.migration.on_timeout == "force":
        work.guest.pause()
    else:
        raise MigrationFailed("given up: the guest writes to its memory faster than that is carried")


def _require_wanted(work: Work) -> None:
    if work.hurried:
        raise MigrationFailed("given up, because the instance is to be terminated")
    if work.node.wishes.get(_id(work)) == "abort":
        raise MigrationFailed("given up, because somebody wished so")


def _details(progress: MigrationProgress) -> dict[str, object]:
    return {
        "stage": progress.stage,
        "percent": progress.percent,
        "remaining": progress.remaining,
        "dirty_rate": progress.dirty_rate,
        "expected_downtime": progress.expected_downtime,
    }


def take_back(work: Work) -> None:
    """Nothing is carried any more, and the guest goes on here."""
    work.node.wishes.pop(_id(work), None)
    guest = work.node.find_guest(work.uuid)
    if guest is not None:
        guest.outgoing.cancel()
        if guest.status() is PowerState.PAUSED:
            guest.resume()


def hand_over(work: Work) -> None:
    """The guest is the other host's.

    :raises MigrationRefused: it never will be by this migration.
    """
    work.node.wishes.pop(_id(work), None)
    work.report(0, {"stage": "hand_over", "waiting_for": _destination(work)})
    try:
        _peer(work).post_live_migration_at_destination(work.uuid, _id(work), request_id=_derived(work, "post"))
    except InstanceNotFound:
        raise MigrationRefused(_destination(work), "it knows nothing of the guest any more") from None


def _mover(work: Work) -> Mover:
    """:raises MigrationRefused: the guest, or one of its disks, cannot move."""
    return Mover(
        instance=work.instance,
        machine=work.machine,
        epoch=work.record.epoch,
        source=work.node.settings.host,
        address=migration_address(work.node.settings),
        facts=work.node.hypervisor.facts(work.machine),
        mirrored=list(work.node.storage.moves.mirrored(work.instance)),
    )


def _peer(work: Work) -> Peer:
    return work.node.peers(_destination(work))


def _destination(work: Work) -> str:
    return str(work.request.arguments["dest"])


def _id(work: Work) -> str:
    return work.request.request_id


def _derived(work: Work, what: str) -> str:
    """The id of a request to the other host: the same one, however often it is sent."""
    return str(uuid.uuid5(uuid.UUID(_id(work)), what))


LIVE_MIGRATION = Operation(
    name="live_migration",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(
        Step("check_destination", check_destination),
        Step("prepare_destination", prepare_destination, roll_destination_back),
        Step("begin_copy", begin_copy, take_back),
        Step("copy", copy),
        Step("hand_over", hand_over),
        KILL_GUEST,
        UNPLUG_PORTS,
        Step("leave_disks", leave_disks),
        Step("forget_guest", forget_guest),
    ),
    outcome="gone",
    point_of_no_return="hand_over",
)
