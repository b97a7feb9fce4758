"""What every guest that leaves for another host has done: asked for, made ready for, and handed over.

Up to `hand_over` this host owns the guest: what fails is undone. In `hand_over` nobody lets it run until the other host
has said whether it is the owner now; without an answer it is asked again, for as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from compute_agent.agent import turns
from compute_agent.agent.gates import migration_address
from compute_agent.agent.operation import Step
from compute_agent.agent.operations.departure import (
    check_bindings,
    derived,
    destination,
    is_live,
    migration_id,
    mover_of,
    peer,
)
from compute_agent.agent.work import Work
from compute_agent.errors import (
    DeadlineExceeded,
    HostError,
    InstanceNotFound,
    InvalidMessage,
    MigrationFailed,
    MigrationRefused,
)
from compute_agent.host.encryption import sealed
from compute_agent.host.listening import dial
from compute_agent.instance.migration import Gate
from compute_agent.instance.view import OperationState, StepDetails

T = TypeVar("T")

CONNECT = 10.0
"""Seconds that a connection to the other host may take."""
_ASK_AGAIN = 0.5
"""Seconds from one question about an operation on the other host to the next, if it does not end before."""
_LOOK_FOR_TURN = 1.0
"""Seconds, where nothing ends."""


def await_turn(work: Work) -> None:
    """Not too many others are under way."""
    node = work.node
    if node.turns.take(migration_id(work)):
        return
    work.report(0, StepDetails(stage="turn"))
    with node.turns.resting():
        while not node.turns.take(migration_id(work)):
            require_wanted(work)
            node.ends.wait(_LOOK_FOR_TURN)


def check_destination(work: Work) -> None:
    """It would take the guest; nothing has changed there."""
    if destination(work) == work.node.settings.host:
        raise InvalidMessage("dest", destination(work), "the instance is there")
    check_bindings(work.request, work.instance)
    work.node.storage.moves.leave_proof(work.instance, migration_id(work), runs=is_live(work))
    peer(work).check_can_live_migrate_destination(mover_of(work))


def prepare_destination(work: Work) -> None:
    """It has all that waits for the guest, or for the files that the guest only reads."""
    mover = mover_of(work)
    have_prepared(work, "pre", partial(peer(work).pre_live_migration, work.uuid, migration_id(work), mover))
    take_proof_back(work)


def take_proof_back(work: Work) -> None:
    """It has seen that it reaches the same disks, or will not be asked again."""
    work.node.storage.moves.take_proof_back(work.instance, migration_id(work))


def have_prepared(work: Work, name: str, ask: Callable[..., object]) -> None:
    """Ask it for an operation, which is called `name` here, and wait until that is done."""

    def prepare(due: float) -> None:
        ask(request_id=derived(work, name))
        _await_preparation(work, name, due)

    _ask_until_answered(work, prepare)


def _await_preparation(work: Work, name: str, due: float) -> None:
    ask = partial(peer(work).get_operation, derived(work, name), wait=_ASK_AGAIN)
    while (view := ask()).state is not OperationState.DONE:
        if view.state is OperationState.FAILED:
            raise MigrationFailed(f"{destination(work)}: {view.fault.message if view.fault else 'it is not prepared'}")
        work.report(view.progress)
        _require_patience(work, due)


def _require_patience(work: Work, due: float) -> None:
    require_wanted(work)
    if time.monotonic() > due:
        raise MigrationFailed(f"{destination(work)} is not prepared in time")


def roll_destination_back(work: Work) -> None:
    """It lets go of what has come in. Where it does not answer, it finds out by itself that nothing more comes."""
    with suppress(InstanceNotFound, MigrationRefused):
        peer(work).rollback_live_migration_at_destination(
            work.uuid, migration_id(work), request_id=derived(work, "rollback")
        )


def find_gate(work: Work) -> Gate:
    """Where the guest goes in.

    :raises MigrationFailed: all of it could be read on its way, and that is not wished here.
    """
    # Asked for again, it is another gate: an earlier one leads nowhere any more.
    gate = _ask_until_answered(work, lambda _: peer(work).get_incoming(work.uuid, migration_id(work)))
    if gate.key is None and work.node.settings.migration.encrypt:
        raise MigrationFailed(f"{destination(work)} encrypts nothing, and [migration] encrypt is on here")
    return gate


def _ask_until_answered(work: Work, ask: Callable[[float], T]) -> T:
    """Whoever gets no answer asks again. `ask` is told when all patience is over."""
    due = time.monotonic() + work.node.settings.migration.prepare_timeout
    while True:
        try:
            return ask(due)
        except DeadlineExceeded:
            _require_patience(work, due)


def require_wanted(work: Work) -> None:
    """:raises MigrationFailed: nobody wants the guest to move any more."""
    if work.hurried:
        raise MigrationFailed("given up, because the instance is to be terminated")
    if work.node.wishes.get(migration_id(work)) == "abort":
        raise MigrationFailed("given up, because somebody wished so")


def forget_wish(work: Work) -> None:
    """Whoever wanted it to stay has got that."""
    work.node.wishes.pop(migration_id(work), None)


def send_files(work: Work, files: Sequence[str]) -> None:
    """These, to which nobody writes, are there, and will last."""
    gate = find_gate(work)
    if gate.disks_port is None:
        raise MigrationFailed(f"{destination(work)} takes no files of disks")
    began = time.monotonic()

    def progress(percent: int) -> None:
        require_wanted(work)
        left = (time.monotonic() - began) * (100 - percent) / percent if percent else None
        work.report(percent, StepDetails(stage="disks", percent=percent, time_left=left))

    bandwidth = work.node.settings.migration.max_bandwidth * 1024**2
    connection = dial(gate.address, gate.disks_port, migration_address(work.node.settings), CONNECT)
    with sealed(connection, gate.certificate, gate.key) as one:
        work.node.storage.moves.files.send(work.instance, files, one, bandwidth, progress)


def hand_over(work: Work) -> None:
    """The guest is the other host's.

    :raises MigrationRefused: it never will be by this migration.
    """
    forget_wish(work)
    work.node.ends.wake()
    try:
        peer(work).post_live_migration_at_destination(work.uuid, migration_id(work), request_id=derived(work, "post"))
    except InstanceNotFound:
        raise MigrationRefused(destination(work), "it knows nothing of the guest any more") from None
    except (DeadlineExceeded, HostError):  # told now, and not before: the guest stands still
        work.report(0, StepDetails(stage="hand_over", waiting_for=destination(work)))
        raise
    work.node.storage.moves.disown(work.uuid)


AWAIT_TURN = Step(turns.AWAIT_TURN, await_turn, forget_wish)
CHECK_DESTINATION = Step("check_destination", check_destination, take_proof_back)
PREPARE_DESTINATION = Step("prepare_destination", prepare_destination, roll_destination_back)
HAND_OVER = Step(turns.HAND_OVER, hand_over)
