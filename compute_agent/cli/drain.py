"""All guests of a host are moved away, some at a time. What is under way when this begins is waited for."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_agent.cli.destinations import Destinations
from compute_agent.cli.progress_of_many import ManyDisplay
from compute_agent.cli.waiting import PATIENCE
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, HostError
from compute_agent.instance.state import VmState
from compute_agent.instance.view import InstanceView, OperationState, OperationView

if TYPE_CHECKING:
    from compute_agent.instance.view import Accepted
    from compute_agent.rpc.client import ComputeClient

PAUSE = 0.5
"""Seconds between two looks at all that are under way."""
_MOVES = ("live_migration", "migrate")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one guest."""

    uuid: str
    name: str
    moved_to: str | None
    """None: it was on its way before, by somebody else's order; or it is still there."""
    reason: str | None
    """That it is still there; None: it is not."""


@dataclass(slots=True)
class _Move:
    """One guest on its way."""

    view: InstanceView
    request_id: str
    dest: str | None
    refusals: list[str] = field(default_factory=list)
    """Of other destinations, before."""
    is_accepted: bool = False
    answered_at: float = field(default_factory=time.monotonic)


class Drain:
    """Of one host. The agent there carries each guest; this only orders, and looks."""

    def __init__(
        self,
        client: ComputeClient,
        destinations: Destinations,
        limit: int,
        display: ManyDisplay,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE),
    ) -> None:
        """At most `limit` guests are moved at once."""
        self._client = client
        self._destinations = destinations
        self._limit = limit
        self._display = display
        self._pause = pause
        self._moves: list[_Move] = []
        self._fates: list[Fate] = []

    def run(self) -> list[Fate]:
        """One for each guest that was there, in the order in which that was known.

        :raises DeadlineExceeded, HostError: the host gave no answer for a minute. Begun again, this goes on.
        """
        waiting = deque(self._client.list_instances())
        while waiting or self._moves:
            while waiting and len(self._moves) < self._limit:
                self._begin(waiting.popleft())
            self._moves = [move for move in self._moves if self._is_under_way(move)]
            if self._moves:
                self._pause()
        return self._fates

    def _begin(self, view: InstanceView) -> None:
        operation = self._find_move(view)
        if operation is not None:
            self._moves.append(_Move(view, operation.request_id, None, is_accepted=True))
        elif view.vm_state not in self._orders:
            movable = " and ".join(sorted(self._orders))
            self._stays(view, f"it is {view.vm_state}: only those that are {movable} can be moved")
        else:
            self._order(view, [])

    def _find_move(self, view: InstanceView) -> OperationView | None:
        """By an earlier run that was cut short, or by a person."""
        for operation in self._client.list_operations(view.instance.uuid, 10):
            if operation.operation in _MOVES and operation.finished_at is None:
                return operation
        return None

    def _order(self, view: InstanceView, refusals: list[str]) -> None:
        """Send it to the emptiest host that has not refused it."""
        memory_mb = view.instance.flavor.memory_mb
        refused_by = {refusal.partition(":")[0] for refusal in refusals}
        left = [host for host in self._destinations.with_room(memory_mb) if host not in refused_by]
        if not left:
            room = f"no host is left for its {memory_mb} MiB ({self._destinations.describe()})"
            self._stays(view, "; ".join(refusals) or room)
            return
        self._destinations.take(left[0], memory_mb)
        self._moves.append(_Move(view, str(uuid.uuid4()), left[0], refusals))

    @property
    def _orders(self) -> dict[VmState, Callable[..., Accepted]]:
        return {VmState.ACTIVE: self._client.live_migration, VmState.STOPPED: self._client.migrate_instance}

    def _ask(self, move: _Move) -> OperationView:
        """An order that got no answer is sent again, under its id."""
        if not move.is_accepted:
            self._orders[move.view.vm_state](move.view.instance.uuid, move.dest, request_id=move.request_id)
            move.is_accepted = True
        return self._client.get_operation(move.request_id)

    def _is_under_way(self, move: _Move) -> bool:
        try:
            operation = self._ask(move)
        except (DeadlineExceeded, HostError) as error:
            if time.monotonic() > move.answered_at + PATIENCE:
                raise
            self._display.remark(f"{error}; asking again")
            return True
        except ComputeAgentError as error:
            self._stays(move.view, str(error))
            return False
        move.answered_at = time.monotonic()
        self._display.show(move.view.instance.name, move.dest, operation)
        if operation.finished_at is not None:
            self._conclude(move, operation)
        return operation.finished_at is None

    def _conclude(self, move: _Move, operation: OperationView) -> None:
        instance = move.view.instance
        if operation.state is OperationState.DONE:
            self._fates.append(Fate(instance.uuid, instance.name, move.dest, None))
            return
        reason = operation.fault.message if operation.fault else "no reason was given"
        if move.dest is None:
            self._stays(move.view, reason)
            return
        self._destinations.take(move.dest, -instance.flavor.memory_mb)
        self._order(move.view, [*move.refusals, f"{move.dest}: {reason}"])

    def _stays(self, view: InstanceView, reason: str) -> None:
        self._fates.append(Fate(view.instance.uuid, view.instance.name, None, reason))
