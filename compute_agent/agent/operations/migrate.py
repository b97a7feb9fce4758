"""migrate: a stopped instance moves to another host, or one that is stopped for that and started again there.

Nothing of it runs meanwhile; its disks are files that nobody writes to, and the kernel sends them.
"""

from __future__ import annotations

from contextlib import suppress

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import forget_guest
from compute_agent.agent.operations.departure import derived, peer
from compute_agent.agent.operations.incoming import leave_disks
from compute_agent.agent.operations.leaving import (
    AWAIT_TURN,
    CHECK_DESTINATION,
    HAND_OVER,
    PREPARE_DESTINATION,
    send_files,
)
from compute_agent.agent.operations.power import shut_down
from compute_agent.agent.operations.steps import KILL_GUEST, kill_guest, start_guest, unplug_ports
from compute_agent.agent.work import Work
from compute_agent.errors import Conflict, NotFound
from compute_agent.instance.state import PowerState, VmState


def copy_disks(work: Work) -> None:
    """All disks that exist on this host only are there, and will last."""
    moves = work.node.storage.moves
    if disks := moves.mirrored(work.instance):
        send_files(work, moves.files.all_of(work.instance, disks))


def stop_and_copy(work: Work) -> None:
    """The same with the disks of one that runs until then.

    One step: while it is undone the guest may run again, and be stopped again by an agent that does it once more.
    """
    shut_down(work)
    unplug_ports(work)
    copy_disks(work)


def start_again(work: Work) -> None:
    """It runs here, as before."""
    guest = work.node.find_guest(work.uuid)
    if guest is None or guest.status() is not PowerState.RUNNING:
        kill_guest(work)
        start_guest(work)


def start_there(work: Work) -> None:
    """The other host has been told to start it; whoever has done something about it there since was right."""
    with suppress(Conflict, NotFound):
        peer(work).start_instance(work.uuid, request_id=derived(work, "start"))


_CLEAR_AWAY = (KILL_GUEST, Step("leave_disks", leave_disks), Step("forget_guest", forget_guest))

MIGRATE = Operation(
    name="migrate",
    allowed=frozenset({VmState.STOPPED}),
    steps=(
        AWAIT_TURN,
        CHECK_DESTINATION,
        PREPARE_DESTINATION,
        Step("copy_disks", copy_disks),
        HAND_OVER,
        *_CLEAR_AWAY,
    ),
    outcome="gone",
    point_of_no_return=HAND_OVER.name,
)

MIGRATE_RUNNING = Operation(
    name="migrate",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(
        AWAIT_TURN,
        CHECK_DESTINATION,
        PREPARE_DESTINATION,
        Step("stop_and_copy", stop_and_copy, start_again),
        HAND_OVER,
        Step("start_there", start_there),
        *_CLEAR_AWAY,
    ),
    outcome="gone",
    point_of_no_return=HAND_OVER.name,
)
