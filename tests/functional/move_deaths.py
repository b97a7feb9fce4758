"""A move, one of whose two agents kills itself in the middle; and what has to hold then."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from compute_agent.agent.arrivals import POST, PRE, ROLL_BACK, START
from compute_agent.agent.journal import Journal
from compute_agent.errors import ComputeAgentError
from compute_agent.instance.migration import Evacuee
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Accepted, OperationState
from sandbox.commands import SandboxError
from tests.functional.crossing import READY, Crossing, Side
from tests.functional.deaths import END, NEVER, SOON, ask_in_vain

_SECONDS = 90.0


@dataclass(frozen=True)
class Passage:
    """One move of an instance, and the host whose agent dies in it."""

    uuid: str
    source: Side
    destination: Side
    dying: Side
    request_id: str


Ask = Callable[[Passage], Accepted]


def _live(passage: Passage) -> Accepted:
    client, destination = passage.source.node.client, passage.destination.node.host
    return client.live_migration(passage.uuid, destination, passage.request_id)


def _cold(passage: Passage, *, stop: bool = False) -> Accepted:
    client, destination = passage.source.node.client, passage.destination.node.host
    return client.migrate_instance(passage.uuid, destination, passage.request_id, stop=stop)


def _warm(passage: Passage) -> Accepted:
    return _cold(passage, stop=True)


@dataclass(frozen=True, kw_only=True)
class Move:
    """One operation of one of the two agents, and what brings it about."""

    operation: str
    by: Literal["source", "destination"]
    """Whose operation it is."""
    ask: Ask = _live
    state: VmState = VmState.ACTIVE
    after: VmState | None = None
    """The state that it has at its new host, if another."""
    layered: bool = False
    lead_up: Callable[[Passage], object] = lambda _: None
    """What has to be before it is asked for."""
    is_asked: bool = True
    """Else the next agent of that host does it by itself."""
    asked: Literal["source", "destination"] = "source"
    """Who tells the outcome."""

    @property
    def is_live(self) -> bool:
        """It runs all the time."""
        return self.ask is _live and self.after is None


def _give_up(passage: Passage) -> None:
    """The destination has prepared everything when nobody wants the move any more."""
    _die_in(passage, PRE, NEVER, _live)
    passage.source.node.client.live_migration_abort(passage.uuid)


def _lose_source(passage: Passage) -> None:
    """Its guest lives on."""
    passage.source.node.kill()


def _take_from_dead(passage: Passage) -> Accepted:
    """By what somebody has kept of its record."""
    journal = Journal(passage.source.node.directory / "state/journal.sqlite")
    record = journal.instance(passage.uuid).record
    journal.close()
    evacuee = Evacuee(
        instance=record.instance, machine=record.machine, epoch=record.epoch + 1, source=passage.source.node.host
    )
    return passage.destination.node.client.evacuate_instance(evacuee, request_id=passage.request_id)


def _lose_source_and_guest(passage: Passage) -> None:
    """The other host has taken it."""
    _lose_source(passage)
    passage.destination.guests.finish(_take_from_dead(passage))


BETWEEN_DISKS = {
    "live migration": Move(operation="live_migration", by="source"),
    "live migration with layers": Move(operation="live_migration", by="source", layered=True),
    "pre live migration": Move(operation=PRE, by="destination"),
    "start at destination": Move(operation=START, by="destination", layered=True),
    "post live migration": Move(operation=POST, by="destination"),
    "rollback live migration": Move(operation=ROLL_BACK, by="destination", lead_up=_give_up, is_asked=False),
    "migrate": Move(operation="migrate", by="source", ask=_cold, state=VmState.STOPPED),
    "migrate with stop": Move(operation="migrate", by="source", ask=_warm),
    "pre migrate": Move(operation=PRE, by="destination", ask=_cold, state=VmState.STOPPED),
    "post migrate": Move(operation=POST, by="destination", ask=_cold, state=VmState.STOPPED),
}

IN_CLUSTER = {
    **{name: BETWEEN_DISKS[name] for name in BETWEEN_DISKS if "layer" not in name and name != "start at destination"},
    "evacuate": Move(
        operation="evacuate",
        by="destination",
        ask=_take_from_dead,
        after=VmState.STOPPED,
        lead_up=_lose_source,
        asked="destination",
    ),
    "evacuated": Move(
        operation="evacuated",
        by="source",
        after=VmState.STOPPED,
        lead_up=_lose_source_and_guest,
        is_asked=False,
        asked="destination",
    ),
}


def survive_move(crossing: Crossing, move: Move, moment: int) -> tuple[str, bool]:
    """An agent dies at that moment, and again in the recovery; where it died first, and whether the move was made."""
    crossing.make(move.state, layered=move.layered)
    source, destination = crossing.here_and_there()
    counted, starts = source.guests.counter(crossing.uuid), source.guests.console(crossing.uuid).count(READY)
    dying = source if move.by == "source" else destination
    passage = Passage(crossing.uuid, source, destination, dying, str(uuid.uuid4()))
    died_in = _die(passage, move, moment)
    crossing.deaths, crossing.moments, crossing.steps = 1, len(dying.fate.moments()), dying.fate.steps()
    last, again = died_in, moment % SOON + 1
    while not last.endswith(END):
        last, again = _die_in(passage, move.operation, again, None), NEVER
        crossing.deaths += 1
    for side in crossing.sides:
        side.live_on()
    asked = source if move.asked == "source" else destination
    operation = asked.node.client.wait(passage.request_id, _SECONDS)
    has_moved = operation.state is OperationState.DONE
    owner, state = (destination, move.after or move.state) if has_moved else (source, move.state)
    crossing.assert_only(owner, state)
    if move.is_live:
        crossing.assert_counts_on(owner, counted, 0 if has_moved else starts)  # its console begins anew there
    return died_in, has_moved


def _die(passage: Passage, move: Move, moment: int) -> str:
    move.lead_up(passage)
    return _die_in(passage, move.operation, moment, move.ask if move.is_asked else None)


def _die_in(passage: Passage, operation: str, moment: int, ask: Ask | None) -> str:
    """With an agent that is there, or without `ask` with the next one."""
    node, fate = passage.dying.node, passage.dying.fate
    fate.decree(operation, moment)
    errors: list[ComputeAgentError] = []
    try:
        if ask is None:
            node.start_to_die()
        else:
            errors = ask_in_vain(partial(ask, passage))
            node.await_death()
    except SandboxError as error:
        missed = f"{operation} was not carried out to its moment {moment}: {errors}"
        raise AssertionError(missed) from error
    return fate.last_moment()
