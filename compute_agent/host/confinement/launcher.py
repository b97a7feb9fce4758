"""The agent's side of the fork server."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from compute_agent.errors import GuestStartFailed, HostError
from compute_agent.host.confinement.order import Order, send_order
from compute_agent.host.confinement.server import PROGRAMS, READY
from compute_agent.host.processes import ForkedChild, Process, find_processes

_PREDECESSORS_END = 10.0
"""Seconds that the fork server of a killed agent gets for what it was told last."""
_ANSWER = 30.0
"""Seconds; it takes some milliseconds."""
_LAST_BREATH = 2.0
_LOOK_AGAIN = 0.01
_NO_SECRETS = {"PATH": os.defpath}
_LONGEST_ANSWER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Who a process shall be."""

    uid: int
    """Its user and group."""
    devices: Sequence[str] = ()
    """Of /dev: ``kvm``."""
    is_server: bool = False
    """It keeps the host's network, may make sockets, and has a small /run of its own to put them in."""
    cgroups: Sequence[int] = ()
    """Open descriptors of the cgroup.procs that it is written to."""


class Launcher:
    """Starts confined processes. They are this process's children, and outlive it."""

    def __init__(self, lock: Path, trees: Sequence[str] = (), module: str = PROGRAMS) -> None:
        """Waits until what the last agent began to start has been started: from here on /proc shows all of it.

        `trees` are directories, besides /usr, that programs may need; `module` is the fork server, which says what
        becomes of the processes.

        :raises HostError: the last agent's fork server does not come to an end.
        """
        self._command = [sys.executable, "-I", "-m", module]
        self._trees = trees
        self._mutex = threading.Lock()
        self._lock = _acquire(lock)
        self._server: _ServerProcess | None = None

    def prepare(self) -> None:
        """Start the fork server now, so that the first program need not wait for it."""
        with self._mutex:
            self._server = self._server or _ServerProcess(self._command, self._lock, self._trees)

    def spawn(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        pass_fds: Sequence[int],
        log_fd: int,
        confinement: Confinement,
    ) -> Process:
        """Start a process; on return it is what it shall be, with `arguments`.

        :raises GuestStartFailed: it could not be started, and no process is left.
        """
        order = Order(
            arguments=arguments,
            environment=environment,
            uid=confinement.uid,
            devices=confinement.devices,
            is_server=confinement.is_server,
            cgroups=len(confinement.cgroups),
            numbers=pass_fds,
        )
        outcome, status = os.pipe()
        with open(outcome, "rb", buffering=0) as reader:  # noqa: PTH123  a descriptor has no path
            try:
                process = self._fork(order, [status, log_fd, *confinement.cgroups, *pass_fds])
            finally:
                os.close(status)
            _await_program(process, reader)
        return process

    def close(self) -> None:
        """End the fork server; what it started goes on."""
        with self._mutex:
            if self._server is not None:
                self._server.stop()
            os.close(self._lock)

    def _fork(self, order: Order, descriptors: Sequence[int]) -> Process:
        with self._mutex:
            server = self._server = self._server or _ServerProcess(self._command, self._lock, self._trees)
            try:
                pid = server.fork(order, descriptors)
            except (OSError, ValueError) as error:
                server.stop()
                self._server = None
                _kill_all_of(order.uid)
                raise GuestStartFailed(f"the fork server did not start it: {error}") from error
            return Process(pid, os.pidfd_open(pid), ForkedChild(pid))


class _ServerProcess:
    """One life of the fork server. It is not waited for before it is needed."""

    def __init__(self, command: Sequence[str], lock: int, trees: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_ANSWER)
        self._is_ready = False
        with theirs:
            fds = [theirs.fileno(), lock]
            self._process = subprocess.Popen(
                [*command, *map(str, fds), *trees],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                env=_NO_SECRETS,
                start_new_session=True,
            )

    def fork(self, order: Order, descriptors: Sequence[int]) -> int:
        """The new process's number. :raises OSError, ValueError: it may have been started or not."""
        if not self._is_ready:
            self._is_ready = self._control.recv(_LONGEST_ANSWER) == READY
        send_order(self._control, order, descriptors)
        return int(self._control.recv(_LONGEST_ANSWER))

    def stop(self) -> None:
        self._control.close()
        try:
            self._process.wait(_LAST_BREATH)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _acquire(lock: Path) -> int:
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PREDECESSORS_END
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise HostError(f"{lock} is held: another agent runs, or its fork server is stuck") from None
            time.sleep(_LOOK_AGAIN)
        else:
            return fd


def _await_program(process: Process, outcome: FileIO) -> None:
    """The pipe closes when the program has been executed; before, it may say what went wrong."""
    poll = select.poll()
    poll.register(outcome, select.POLLIN)
    said = outcome.read() if poll.poll(_ANSWER * 1000) else f"nothing heard of it for {_ANSWER:g} s".encode()
    if said:
        process.kill()
        process.wait(_LAST_BREATH)
        raise GuestStartFailed(f"{said.decode()}")


def _kill_all_of(uid: int) -> None:
    found = find_processes(lambda entry: str(entry.pid) if entry.uid == uid else None)
    for process in found.values():
        process.kill()
        process.wait(_LAST_BREATH)
