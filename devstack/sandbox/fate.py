"""When an agent dies: orders for `sandbox.dying_agent`, and what it has noted of its moments."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_PROGRAM = Path(__file__).with_name("dying_agent.py")
_STEP = re.compile(r"\w+: before (\w+)")
"""Children have arguments: more than a word."""


class Fate:
    """Of the agents of one node, one after the other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.program = [sys.executable, str(_PROGRAM), str(directory)]
        """What a `Nursery` has to run."""
        self._order = directory / "order.json"
        self._moments = directory / "moments"

    def decree(self, operation: str, moment: int) -> None:
        """The agent dies at the moment of that number (from 1 on) of the operation, or at its last one."""
        self._moments.write_text("")
        order = {"operation": operation, "moment": moment}
        part = self._order.with_suffix(".part")
        part.write_text(json.dumps(order))
        part.rename(self._order)

    def spare(self) -> None:
        """The agent lives on."""
        self._order.unlink(missing_ok=True)

    def last_moment(self) -> str:
        """In which it died since it was decreed: ``OPERATION: WHAT``; WHAT is ``end`` for the last."""
        return self.moments()[-1]

    def moments(self) -> list[str]:
        """All that have passed since it was decreed."""
        return self._moments.read_text().splitlines()

    def steps(self) -> int:
        """How many of the operation's have begun since it was decreed."""
        return len({found[1] for moment in self.moments() if (found := _STEP.fullmatch(moment))})
