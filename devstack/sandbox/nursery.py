"""Agents that need not be loaded each time: a process has imported everything, and copies itself for each of them.

An agent that dies thousands of times would spend most of its lives importing. `run` is the process's part, `Nursery`
that of whoever wants agents.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from sandbox.commands import SandboxError

_PATIENCE = 30.0
"""Seconds for the imports."""


class Nursery:
    """At most one agent at a time; none begins after the end of the process that wanted it."""

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Copy:
        """An agent with these arguments, whose standard output and error go to `log`.

        :raises SandboxError: there is none.
        """
        process = self._process = self._process or subprocess.Popen(
            self._program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([arguments, dict(environment), str(log)]) + "\n")
        if (pid := _next_number(process.stdout, _PATIENCE)) is None:
            raise SandboxError(f"{self._program}: no agent began in {_PATIENCE:g} s")
        return Copy(pid, process.stdout)

    def close(self) -> None:
        """Its agent, if there is one, is not waited for."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Copy:
    """An agent's process, as `subprocess.Popen` has it."""

    def __init__(self, pid: int, told: IO[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        if self.returncode is None:
            self.returncode = _next_number(self._told, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, when it has.

        :raises subprocess.TimeoutExpired: it has not.
        """
        if self.returncode is None:
            self.returncode = _next_number(self._told, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("an agent", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """If it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _next_number(told: IO[str], seconds: float | None) -> int | None:
    """A line is never there in part, and two are never there at once. None: there is none in time.

    :raises SandboxError: there will be none.
    """
    readable, _, _ = select.select([told], [], [], seconds)
    if not readable:
        return None
    if line := told.readline():
        return int(line)
    raise SandboxError("whoever makes agents has ended")


def run(main: Callable[[Sequence[str]], int]) -> None:
    """A copy carries out `main` for each line of standard input; its pid and its status are told, a line each."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(main, *json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _live(
    main: Callable[[Sequence[str]], int], arguments: Sequence[str], environment: Mapping[str, str], log: str
) -> NoReturn:
    os.setsid()
    os.environ.update(environment)
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, place in enumerate((nothing, written, written)):
        os.dup2(place, number)
    for place in (nothing, written):
        os.close(place)
    os._exit(main(arguments))
