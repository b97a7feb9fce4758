"""What an operation is: a list of steps.

A step is journaled before its side effect, may be repeated (an agent that died in it does it again), and
is undone when the operation fails. A step that was done before a crash is not repeated, so a step that
needs what an earlier one handed over (open descriptors, for instance) gets it anew from `Work`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from compute_agent.agent.work import Work
from compute_agent.instance.state import VmState


def nothing(work: Work) -> None:
    """The undo of a step whose effect is harmless, or cannot be taken back."""


@dataclass(frozen=True, slots=True)
class Step:
    """One side effect and its undo. Both may be repeated."""

    name: str
    do: Callable[[Work], None]
    undo: Callable[[Work], None] = nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One verb of the agent."""

    name: str
    allowed: frozenset[VmState]
    """States of the instance in which it may start."""
    steps: tuple[Step, ...]
    outcome: VmState | Literal["gone", "unchanged", "observed"]
    """The instance's state when all steps are done; observed: what is found by looking."""
    failure: VmState | Literal["gone"] | None = None
    """The instance's state when the steps were undone; None: whatever is found by looking."""
    point_of_no_return: str | None = None
    """From this step on an error is no reason to give up, for the guest may be another host's: the step is repeated.

    Only `MigrationRefused`, from this very step, says that it is not, and all is undone.
    """
    result: Callable[[Work], Mapping[str, object]] | None = None
    """What the controller is told when all is done; found by looking, for the agent may have died before."""
