"""When an agent dies: orders for `sandbox.dying_agent`, and what it has noted of its moments."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.commands import SandboxError

_PROGRAM = Path(__file__).with_name("dying_agent.py")
_PATIENCE = 60.0
"""Seconds."""
_STEP = re.compile(r"\w+: before (\w+)")
"""Children have arguments: more than a word."""


class Fate:
    """Of the agents of one node, one after the other."""

    def __init__(self, directory: Path, program: str | Path = _PROGRAM) -> None:
        """`program`: `sandbox.dying_agent`, or what runs that in the end."""
        directory.mkdir()
        self._halted, self._go = directory / "halted", directory / "go"
        os.mkfifo(self._go)
        self.program = [sys.executable, str(program), str(directory)]
        """What a `Nursery` has to run."""
        self._order = directory / "order.json"
        self._moments = directory / "moments"

    def decree(self, operation: str, moment: int) -> None:
        """The agent dies at the moment of that number (from 1 on) of the operation, or at its last one."""
        self._write(operation, moment, halts=False)

    @contextmanager
    def halted(self, operation: str, moment: int, begin: Callable[[], object]) -> Iterator[str]:
        """Once it has begun, stand still at that moment, or at its last one; inside: the instance whose it is.

        :raises SandboxError: it does not come to a moment.
        """
        self._write(operation, moment, halts=True)
        begin()
        go = self._await_halt()
        try:
            yield self._halted.read_text()
        finally:
            self.spare()
            os.close(go)

    def _await_halt(self) -> int:
        """Nobody can open the pipe in this way before somebody waits at its other end."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with suppress(OSError):
                return os.open(self._go, os.O_WRONLY | os.O_NONBLOCK)
            time.sleep(0.01)
        raise SandboxError(f"no halt; it has come to {self.moments()[-1:]}")

    def _write(self, operation: str, moment: int, *, halts: bool) -> None:
        self._moments.write_text("")
        order = {"operation": operation, "moment": moment, "halts": halts}
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
