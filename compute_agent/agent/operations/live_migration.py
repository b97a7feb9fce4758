"""live_migration: a guest moves to another host while it runs, and whatever dies on the way, one of the two owns it.

What it has in common with guests that are stopped: `compute_agent.agent.operations.leaving`.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

from compute_agent.agent.arrivals import READABLE
from compute_agent.agent.gates import migration_address
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import forget_guest
from compute_agent.agent.operations.convergence import Convergence
from compute_agent.agent.operations.departure import destination, migration_id, peer, permits_post_copy
from compute_agent.agent.operations.incoming import leave_disks
from compute_agent.agent.operations.leaving import (
    AWAIT_TURN,
    CHECK_DESTINATION,
    CONNECT,
    HAND_OVER,
    PREPARE_DESTINATION,
    find_gate,
    have_prepared,
    require_wanted,
    roll_destination_back,
    send_files,
)
from compute_agent.agent.operations.post_copy import SEND_REST
from compute_agent.agent.operations.steps import KILL_GUEST, UNPLUG_PORTS
from compute_agent.agent.work import Work
from compute_agent.errors import (
    DeadlineExceeded,
    HostError,
    InvalidState,
    MigrationFailed,
    MigrationRefused,
    MonitorError,
)
from compute_agent.host.listening import dial
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.migration import Gate, encrypted_disks
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import StepDetails
from compute_agent.virt.contract import Guest
from compute_agent.virt.migration import MigrationProgress, OutgoingMigration

LOG = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks at a migration where nothing happens."""
_ENDED_WITHIN, _LOOK_AGAIN = 60.0, 0.2
"""Seconds, of a process at the destination that the guest here waits for."""


def copy_layers(work: Work) -> None:
    """What disks' newest layers stand on is there, and so is what waits for the guest."""
    moves = work.node.storage.moves
    if files := moves.files.lower_of(work.instance, moves.mirrored(work.instance)):
        send_files(work, files)
        have_prepared(work, "start", partial(peer(work).start_at_destination, work.uuid, migration_id(work)))


def begin_copy(work: Work) -> None:
    """Disks, or memory where all disks can be reached from both hosts, are on their way."""
    outgoing = work.outgoing
    outgoing.cancel()  # what an agent began that was killed
    if work.guest.status() is not PowerState.RUNNING:
        raise InvalidState(work.uuid, "live_migration", "halted by a disk or itself", "running")
    gate, pace = find_gate(work), Convergence(work.node.settings.migration).first_pace()
    disks = work.node.storage.moves.mirrored(work.instance)
    _require_hidden(work, gate, disks)
    with ExitStack() as opened:
        memory = opened.enter_context(_dial(work, gate, gate.memory_port))
        targets = {name: _target(name, opened.enter_context(_dial(work, gate, gate.disks_port))) for name in disks}
        outgoing.begin(memory.fileno(), targets, pace, gate.key, post_copy=permits_post_copy(work))


def _require_hidden(work: Work, gate: Gate, disks: Sequence[str]) -> None:
    """:raises MigrationRefused: what one of the disks keeps encrypted would go over the network as it is."""
    if gate.key is None and (encrypted := encrypted_disks(work.instance, disks)):
        raise MigrationRefused(encrypted[0], f"{READABLE}: {destination(work)} encrypts nothing")


def _dial(work: Work, gate: Gate, port: int | None) -> socket.socket:
    if port is None:
        raise MigrationFailed(f"the guest's process on {destination(work)} has ended")
    return dial(gate.address, port, migration_address(work.node.settings), CONNECT)


def _target(name: str, connection: socket.socket) -> NbdSource:
    return NbdSource(export=name, fd=connection.fileno())


def copy(work: Work) -> None:
    """All of it is there, but for memory that it may go on without; and the guest stands still here."""
    convergence, outgoing = Convergence(work.node.settings.migration), work.outgoing
    while (progress := outgoing.advance(_LOOK)).stage in ("disks", "memory"):
        work.report(progress.percent, _details(progress))
        require_wanted(work)
        if progress.stage == "memory":
            _urge(work, outgoing, convergence)
        if work.node.wishes.get(migration_id(work)) == "force":
            _force(work, outgoing, progress)


def _urge(work: Work, outgoing: OutgoingMigration, convergence: Convergence) -> None:
    """Have the guest let itself be carried."""
    if not convergence.is_over():
        outgoing.set_pace(convergence.pace())
    elif permits_post_copy(work):
        outgoing.start_post_copy()
    elif work.node.settings.migration.on_timeout == "force":
        work.guest.pause()
    else:
        raise MigrationFailed("given up: the guest writes to its memory faster than that is carried")


def _force(work: Work, outgoing: OutgoingMigration, progress: MigrationProgress) -> None:
    """It gets there soon, whatever it writes."""
    if not permits_post_copy(work):
        work.guest.pause()
    elif progress.stage == "memory":
        outgoing.start_post_copy()


def _details(progress: MigrationProgress) -> StepDetails:
    return StepDetails(
        stage=progress.stage,
        percent=progress.percent,
        remaining=progress.remaining,
        dirty_rate=progress.dirty_rate,
        expected_downtime=progress.expected_downtime,
        time_left=progress.time_left,
    )


def take_back(work: Work) -> None:
    """Nothing is carried any more, and the guest goes on here."""
    guest = work.node.find_guest(work.uuid)
    if guest is not None:
        work.outgoing.cancel()
        if guest.status() is PowerState.PAUSED:
            _let_go_on(work, guest)


def _let_go_on(work: Work, guest: Guest) -> None:
    """In post-copy the process there may have locked a file that both hosts have: it has to end first."""
    due = time.monotonic() + _ENDED_WITHIN
    while True:
        try:
            return guest.resume()
        except MonitorError as error:
            if time.monotonic() > due:
                raise
            LOG.warning("The guest cannot go on before the process at %s has ended: %s", destination(work), error)
        with suppress(DeadlineExceeded, HostError):
            roll_destination_back(work)
        time.sleep(_LOOK_AGAIN)


LIVE_MIGRATION = Operation(
    name="live_migration",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(
        AWAIT_TURN,
        CHECK_DESTINATION,
        PREPARE_DESTINATION,
        Step("copy_layers", copy_layers),
        Step("begin_copy", begin_copy, take_back),
        Step("copy", copy),
        HAND_OVER,
        SEND_REST,
        KILL_GUEST,
        UNPLUG_PORTS,
        Step("leave_disks", leave_disks),
        Step("forget_guest", forget_guest),
    ),
    outcome="gone",
    point_of_no_return=HAND_OVER.name,
)
