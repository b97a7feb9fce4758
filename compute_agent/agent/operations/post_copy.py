"""The rest of a guest's memory, which comes when the guest runs on its new host already.

Until all of it has come the guest needs the processes of both hosts, and neither host ends its own. The new host owns
the guest all the same: nothing gives it back. Each side looks at its own process, and asks the other host only whether
that has come to its end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from compute_agent.agent.arrivals import rest_of
from compute_agent.agent.gates import migration_address
from compute_agent.agent.operation import Step
from compute_agent.agent.operations.departure import derived, peer
from compute_agent.agent.operations.leaving import CONNECT, find_gate
from compute_agent.agent.operations.steps import KILL_GUEST, kill_guest, unplug_ports
from compute_agent.agent.work import Work
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, GuestGone, MonitorError, OperationNotFound
from compute_agent.host.listening import dial
from compute_agent.instance.view import StepDetails
from compute_agent.virt.migration import MigrationProgress, Rest

LOG = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK = 1.0
"""Seconds between two looks."""
SETTLED = 5.0
"""Seconds after which a lost connection, or another one in its place, has been noticed on both sides."""


def send_rest(work: Work) -> None:
    """All of it is there; or nobody can send any more, or wants, what is missing, which the other host finds out."""
    cut_off_since: float | None = None
    while (progress := _look(work)) is not None and progress.stage != "complete":
        work.report(progress.percent, _details(work, progress))
        if progress.stage != "cut_off":
            cut_off_since = None
        elif _has_ended(work, derived(work, "post")):
            return
        elif cut_off_since is None:
            cut_off_since = time.monotonic()
        elif time.monotonic() - cut_off_since >= SETTLED:
            cut_off_since = None
            _reconnect(work)


def _look(work: Work) -> MigrationProgress | None:
    """How far it is; None: this host's process can send no more."""
    try:
        guest = work.node.find_guest(work.uuid)
        return guest.outgoing.advance(_LOOK) if guest is not None else None
    except (GuestGone, MonitorError) as error:
        LOG.error("No more of the guest's memory can be sent: %s", error)
        return None


def _details(work: Work, progress: MigrationProgress) -> StepDetails:
    waiting_for = str(work.request.arguments["dest"]) if progress.stage == "cut_off" else None
    return StepDetails(
        stage=progress.stage, percent=progress.percent, remaining=progress.remaining, waiting_for=waiting_for
    )


def _has_ended(work: Work, request_id: str) -> bool:
    """What the new host does with the guest that has come; False where that is not known."""
    try:
        return peer(work).get_operation(request_id).state.is_final
    except OperationNotFound:  # it was accepted, and is forgotten some time after its end
        return True
    except ComputeAgentError as error:
        LOG.warning("It is not known whether the rest of the guest is needed: %s", error)
        return False


def _reconnect(work: Work) -> None:
    """Nothing is lost where this fails: it is tried again."""
    try:
        gate = find_gate(work)
        assert gate.memory_port is not None
        with dial(gate.address, gate.memory_port, migration_address(work.node.settings), CONNECT) as connection:
            connection.settimeout(CONNECT)
            if not connection.recv(1):
                raise MonitorError("the process there has not taken the connection")
            connection.settimeout(None)
            work.guest.outgoing.reconnect(connection.fileno(), gate.key)
    except (ComputeAgentError, OSError) as error:
        LOG.warning("The rest of the guest cannot be sent on yet: %s", error)


def await_rest(work: Work) -> None:
    """All of it is here.

    :raises GuestGone: what is missing is lost, and the guest with it; nothing of it runs.
    """
    _go_on_with_what_was_taken(work)
    while (rest := _rest(work)) != "here" and not work.hurried:
        source = rest_of(work.node, work.uuid, migration_of(work)).source
        if rest == "cut_off" and _nothing_comes(work, source) and _rest(work) == "cut_off":
            raise _lost(work, f"what was left of its memory on {source} is lost")
        work.report(0, StepDetails(stage="rest" if rest == "comes" else rest, waiting_for=source))
        time.sleep(_LOOK)


def _go_on_with_what_was_taken(work: Work) -> None:
    """An agent may have died just when it had another connection for the rest."""
    try:
        if work.guest.incoming.rest() == "cut_off":
            work.guest.incoming.fetch_rest()
    except (MonitorError, DeadlineExceeded, GuestGone) as error:
        LOG.info("No other connection was taken: %s", error)


def _rest(work: Work) -> Rest:
    try:
        return patiently(work, work.guest.incoming.rest)
    except GuestGone as error:
        raise _lost(work, f"its process ended before it was known to have all of its memory: {error}") from error


def _nothing_comes(work: Work, source: str) -> bool:
    """The former host has ended its process, or is about to; False where that is not known."""
    try:
        view = work.node.peers(source).get_operation(migration_of(work))
    except OperationNotFound:
        return True
    except ComputeAgentError as error:
        LOG.warning("It is not known whether the rest of the guest comes: %s", error)
        return False
    return view.state.is_final or KILL_GUEST.name in {step.name for step in view.steps}


def _lost(work: Work, why: str) -> GuestGone:
    kill_guest(work)
    unplug_ports(work)
    return GuestGone(why)


def patiently(work: Work, ask: Callable[[], T]) -> T:
    """What a guest answers, whose process may itself have to wait for a page of its memory."""
    while True:
        try:
            return ask()
        except DeadlineExceeded as error:
            if work.hurried:
                raise
            LOG.warning("The guest does not answer yet: %s", error)


def migration_of(work: Work) -> str:
    """The id of the migration that the guest has come by."""
    return str(work.request.arguments["migration"])


SEND_REST = Step("send_rest", send_rest)
AWAIT_REST = Step("await_rest", await_rest)
