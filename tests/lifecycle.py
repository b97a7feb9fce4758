"""An instance's life as docs/rpc.md promises it, in one table: what tests compare the agent with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GONE = "gone"


@dataclass(frozen=True, slots=True)
class Verb:
    """In which states an operation may begin, and what it makes of the instance."""

    allowed: frozenset[str]
    outcome: str


def _verb(allowed: str, outcome: str) -> Verb:
    return Verb(frozenset(allowed.split()), outcome)


VERBS: Mapping[str, Verb] = {
    "boot": _verb(GONE, "active"),
    "start": _verb("stopped", "active"),
    "stop": _verb("active", "stopped"),
    "pause": _verb("active", "paused"),
    "unpause": _verb("paused", "active"),
    "suspend": _verb("active", "suspended"),
    "resume": _verb("suspended paused", "active"),
    "soft reboot": _verb("active", "active"),
    "hard reboot": _verb("active paused stopped", "active"),
    "terminate": _verb("active paused stopped suspended error", GONE),
}
RUNNING = ("active", "paused")
"""In these a guest has a process."""


def after(state: str, verb: str) -> str | None:
    """What the instance is then; None: it is refused."""
    return VERBS[verb].outcome if state in VERBS[verb].allowed else None
