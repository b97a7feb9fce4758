"""What is done where a guest comes in from another host: pre_live_migration, …_at_destination.

Before anything waits for memory, files may come in: all disks of one that does not run, and of one that does what its
disks' newest layers stand on.

It runs here only after `compute_agent.agent.arrivals.become_owner`; nothing else lets it.
"""

from __future__ import annotations

import logging

import msgspec

from compute_agent.agent.arrivals import POST, PRE, ROLL_BACK, START
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import create_disks, delete_disks, forget_guest
from compute_agent.agent.operations.post_copy import AWAIT_REST, patiently
from compute_agent.agent.operations.steps import (
    KILL_GUEST,
    PLUG_PORTS,
    UNPLUG_PORTS,
    kill_guest,
    launch,
    resume_guest,
    until_disks_answer,
)
from compute_agent.agent.work import Work
from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.instance.device_names import find_device
from compute_agent.instance.state import VmState

LOG = logging.getLogger(__name__)


def make_room(work: Work) -> None:
    """Nothing is left of an earlier stay: a disk's old content would show where the new one has nothing."""
    leave_disks(work)
    work.node.storage.moves.disown(work.uuid)


def clear_away(work: Work) -> None:
    """It does not come."""
    leave_disks(work)
    forget_guest(work)


def leave_disks(work: Work) -> None:
    """Remove those that exist here only; the others are the other host's."""
    work.node.storage.moves.disown(work.uuid)
    delete_disks(work)


def make_layers(work: Work) -> None:
    """Of disks that come in, on top of each other as they will be, with nothing in them."""
    for name in work.node.storage.moves.mirrored(work.instance):
        device = find_device(work.instance, name)
        assert device is not None
        for count, layer in enumerate(device.layers):
            below = msgspec.structs.replace(device, layers=device.layers[:count])
            work.node.storage.layers.make(work.instance, below, layer)


def start_incoming(work: Work) -> None:
    """A process waits for the guest's memory."""
    launch(work, is_incoming=True)


def take_files(work: Work) -> None:
    """What has come in is what it starts with from now on."""
    work.node.storage.moves.files.take(work.instance)


def take_disks(work: Work) -> None:
    """Those that both hosts can reach are this host's. Their cluster is waited for: nobody else may run the guest."""
    until_disks_answer(work, lambda: work.node.storage.moves.take_over(work.instance))


def take_disks_alone(work: Work) -> None:
    """The same, and the other host, which has nothing more to write, cannot."""
    if work.node.storage.moves.mirrored(work.instance):
        _shut_disks(work)
    take_disks(work)


def _shut_disks(work: Work) -> None:
    work.guest.incoming.shut_disks()
    served = work.node.storage.moves.served(work.uuid)
    if served is not None:
        served.shut()


def let_go(work: Work) -> None:
    """Nobody has them open."""
    work.node.storage.disconnect(work.uuid)


def let_run(work: Work) -> None:
    """It goes on where it was halted, and the network knows where that is: both before anything else is done."""
    patiently(work, lambda: resume_guest(work))
    patiently(work, work.guest.incoming.announce)
    with work.node.journal.transaction():
        work.node.journal.set_launched(work.uuid)
        work.node.journal.set_state(work.uuid, VmState.ACTIVE, None)


def forget_key(work: Work) -> None:
    """What it was carried with is of no use any more."""
    patiently(work, lambda: work.guest.incoming.use_key(None))


def note_owner(work: Work) -> None:
    """It can be seen on its disks that they came here; the guest does not depend on it."""
    try:
        work.node.storage.moves.note_owner(work.instance, work.record.epoch)
    except (StorageError, DeadlineExceeded) as error:
        LOG.warning("It is not noted on the disks that they came here: %s", error)


PRE_LIVE_MIGRATION = Operation(
    name=PRE,
    allowed=frozenset({VmState.INCOMING}),
    steps=(
        Step("make_room", make_room, clear_away),
        Step("create_disks", create_disks),
        PLUG_PORTS,
        Step("start_incoming", start_incoming, kill_guest),
    ),
    outcome=VmState.INCOMING,
    failure="gone",
)

PRE_FILES = Operation(
    name=PRE,
    allowed=frozenset({VmState.INCOMING}),
    steps=(
        Step("make_room", make_room, clear_away),
        Step("create_disks", create_disks),
        Step("make_layers", make_layers),
    ),
    outcome=VmState.INCOMING,
    failure="gone",
)

START_AT_DESTINATION = Operation(
    name=START,
    allowed=frozenset({VmState.INCOMING}),
    steps=(
        Step("take_files", take_files),
        PLUG_PORTS,
        Step("start_incoming", start_incoming, kill_guest),
    ),
    outcome=VmState.INCOMING,
    failure=VmState.INCOMING,
)

POST_STOPPED = Operation(
    name=POST,
    allowed=frozenset({VmState.STOPPED}),
    steps=(
        Step("take_files", take_files),
        Step("take_disks", take_disks),
        Step("let_go", let_go),
        Step("note_owner", note_owner),
    ),
    outcome=VmState.STOPPED,
)

POST_LIVE_MIGRATION = Operation(
    name=POST,
    allowed=frozenset({VmState.PAUSED}),
    steps=(
        Step("take_disks", take_disks_alone),
        Step("let_run", let_run),
        Step("forget_key", forget_key),
        Step("note_owner", note_owner),
        AWAIT_REST,
    ),
    outcome=VmState.ACTIVE,
)

ROLLBACK_LIVE_MIGRATION = Operation(
    name=ROLL_BACK,
    allowed=frozenset({VmState.INCOMING}),
    steps=(
        KILL_GUEST,
        UNPLUG_PORTS,
        Step("leave_disks", leave_disks),
        Step("forget_guest", forget_guest),
    ),
    outcome="gone",
    failure=VmState.INCOMING,
)
