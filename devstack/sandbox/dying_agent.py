"""Agents (`sandbox.nursery`) that are the same as others, but send themselves SIGKILL at one moment of one operation.

Usage: dying_agent.py DIRECTORY. ``DIRECTORY/order.json``, which may change while one runs, names the operation and says
which of its moments is the last, or that it is one to stand still in (see `sandbox.fate`); without it nothing happens.
Each moment that passes is noted in ``DIRECTORY/moments``.

The moments are found and not listed: there is one before and one after each step, one before the journal knows of the
end, and one before everything that the operation changes: files, sockets and taps (Python tells of them), children,
processes that a fork server makes (also while it makes them, and after), processes that it ends, and what it asks of
QEMU, the switch, block servers and the workers that talk to Ceph.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # it is run by its path

from sandbox import nursery

# isort: split
from compute_agent.agent.execution import Execution
from compute_agent.agent.journal import Journal
from compute_agent.agent.manager import Manager
from compute_agent.cli.agent import main
from compute_agent.host.confinement import launcher
from compute_agent.host.confinement.launcher import Launcher
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Monitor
from compute_agent.instance.view import StepState
from compute_agent.network.ovs.errand import Look
from compute_agent.network.ovs.ovsdb import Ovsdb
from compute_agent.storage.rbd.worker_process import WorkerProcess

_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chown"),
    *("socket.bind", "fcntl.ioctl"),
)
_QUESTIONS = ("query-", "qom-list", "qom-get", "x-debug-query", "exists", "info", "holder", "watchers", "list_", "fsid")
_LAST = "end"
_STEPS = {StepState.INTENDED: "before", StepState.DONE: "after", StepState.UNDONE: "after the undoing of"}


class Life:
    """What this thread does; and its end, when the moment has come."""

    def __init__(self, directory: Path) -> None:
        self._order = directory / "order.json"
        self._halted, self._go = directory / "halted", directory / "go"
        self._notes = os.open(directory / "moments", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._here = threading.local()

    @contextmanager
    def during(self, operation: str, instance_uuid: str) -> Iterator[None]:
        """The moments of this thread belong to an operation."""
        self._here.operation, self._here.uuid, self._here.passed = operation, instance_uuid, 0
        try:
            yield
        finally:
            self._here.operation = None

    def moment(self, name: str) -> None:
        """One of them."""
        operation, self._here.operation = getattr(self._here, "operation", None), None  # to read the order is no change
        if operation is not None:
            self._pass(operation, name)
            self._here.operation = operation

    def _pass(self, operation: str, name: str) -> None:
        order = json.loads(self._order.read_text()) if self._order.exists() else {}
        if order.get("operation") == operation:
            self._here.passed += 1
            os.write(self._notes, f"{operation}: {name}\n".encode())
            if self._here.passed == order["moment"] or name == _LAST:
                self._end(order)

    def _end(self, order: dict[str, Any]) -> None:
        if not order["halts"]:
            os.kill(os.getpid(), signal.SIGKILL)
        self._halted.write_text(self._here.uuid)
        self._go.read_bytes()  # until somebody has opened it for writing, and closed it

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python tells before it happens."""
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or is_write:
            self.moment(f"{event} {arguments[0]}")


def _around(
    place: object, name: str, before: Callable[..., None], after: Callable[..., None] = lambda *_: None
) -> None:
    """Both are given the arguments of the function, or of the method after its object."""
    original, own = getattr(place, name), int(isinstance(place, type))

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before(*arguments[own:])
        result = original(*arguments, **named)
        after(*arguments[own:])
        return result

    setattr(place, name, wrapped)


def _watch(life: Life) -> None:
    """Have all moments found."""

    def asked(what: str, *_: object) -> None:
        if not what.startswith(_QUESTIONS):
            life.moment(what)

    sys.addaudithook(life.hear)
    _around(Monitor, "execute", asked)
    _around(WorkerProcess, "call", asked)
    _around(Ovsdb, "ask", lambda errand, _: None if isinstance(errand, Look) else life.moment(type(errand).__name__))
    _around(Launcher, "spawn", lambda *_: None, lambda *_: life.moment("a process was made"))
    _around(launcher, "send_order", lambda *_: life.moment("a process is to be made"), lambda *_: life.moment("it is"))
    _around(Process, "kill", lambda: life.moment("a process is ended"), lambda: life.moment("it was told to end"))
    _around(Journal, "set_record", lambda *_: life.moment("the record changes"))
    _around(subprocess.Popen, "__init__", partial(_child, life, "before"), partial(_child, life, "during"))
    _around(Journal, "set_step", partial(_step, life, False), partial(_step, life, True))
    _around(Journal, "finish", lambda *_: life.moment(_LAST))


def _child(life: Life, when: str, words: Sequence[object]) -> None:
    life.moment(f"{when} {' '.join(map(str, words))}")


def _step(life: Life, is_noted: bool, request_id: str, name: str, state: StepState) -> None:
    """The journal knows what is intended before it is done, and what is done after it."""
    if is_noted is (state is StepState.INTENDED):
        life.moment(f"{_STEPS[state]} {name}")


def _follow(life: Life, kind: type, method: str, operation: Callable[[Any], tuple[str, str]], end: str = "") -> None:
    """The method carries out an operation on an instance; `end`: and nobody notes when it is over."""
    original = getattr(kind, method)

    def followed(self: object, **arguments: Any) -> None:
        with life.during(*operation(self)):
            original(self, **arguments)
            if end:
                life.moment(end)

    setattr(kind, method, followed)


def _die_some_day(life: Life) -> None:
    _follow(life, Execution, "run", lambda execution: (str(execution._operation.name), execution._work.uuid))
    # These are done when they are answered: no journal knows of them.
    _follow(life, Manager, "delete_snapshot", lambda _: ("delete_snapshot", ""), _LAST)
    _follow(life, Manager, "delete_backup", lambda _: ("delete_backup", ""), _LAST)
    _watch(life)


if __name__ == "__main__":
    _die_some_day(Life(Path(sys.argv[1])))
    import_module("compute_agent.cli.service")  # `main` would, in each of them
    nursery.run(main)
