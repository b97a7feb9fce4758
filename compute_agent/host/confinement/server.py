"""The fork server of programs: ``python -m compute_agent.host.confinement.server CONTROL LOCK TREE...``.

It has no threads, holds no secret, and sees no file but programs from early on. Its children are the agent's: it forks
them off as its own parent's. When the agent hangs up it ends; the lock, which each child holds until its program runs,
tells the next agent that nothing more will come. Other fork servers differ in what a child becomes at last (`serve`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from compute_agent.host.confinement.kernel import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    fork_for_parent,
    setns,
    unshare,
)
from compute_agent.host.confinement.order import Order, receive_order
from compute_agent.host.confinement.privileges import drop_privileges
from compute_agent.host.confinement.room import furnish_room, furnish_sockets, prepare_room
from compute_agent.host.confinement.system_calls import REFUSED, REFUSED_TO_SERVERS, refuse_system_calls

_OWN_NAMESPACES = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
_HOSTNAME = "guest"

PROGRAMS = "compute_agent.host.confinement.server"
"""Itself, as a module."""
READY = b"ready"
"""Its first message."""

Become = Callable[[Order], None]
"""What a child does last, with no privileges left and the descriptors that it is to have under their numbers.

Other descriptors are closed when a program is executed; else they are to be closed, or the agent waits. It raises
OSError before that, or never returns.
"""


class ForkServer:
    """Starts what the agent orders, one process after the other."""

    def __init__(self, control: socket.socket, lock: int, become: Become) -> None:
        for fd in (control.fileno(), lock):
            os.set_inheritable(fd, False)
        self._control = control
        self._lock = lock
        self._become = become
        self._own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)

    def serve(self) -> None:
        """Until the agent hangs up, or is killed: with an answer that it has not read, that resets the connection."""
        with suppress(ConnectionError):
            self._control.send(READY)
            while (received := receive_order(self._control)) is not None:
                order, descriptors = received
                self._control.send(str(self._start(order, descriptors)).encode())
                for fd in descriptors:
                    os.close(fd)

    def _start(self, order: Order, descriptors: Sequence[int]) -> int:
        unshare(CLONE_NEWPID)
        pid = fork_for_parent()
        if pid == 0:
            self._make(order, descriptors)
        setns(self._own_pids)  # or the next one could not get a namespace of its own
        return pid

    def _make(self, order: Order, descriptors: Sequence[int]) -> None:
        """Never returns: the process is what it shall be, or the status pipe says why not."""
        beyond = max(order.numbers, default=2) + 1
        _, status, log, *others = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for fd in (self._lock, *descriptors))
        try:
            _leave_the_host(order, others[: order.cgroups])
            _hand_over(log, others[order.cgroups :], order.numbers)
            drop_privileges(order.uid)
            refuse_system_calls(REFUSED_TO_SERVERS if order.is_server else REFUSED)
            self._become(order)
        except OSError as error:
            os.write(status, str(error).encode())
        finally:
            os._exit(1)


def _leave_the_host(order: Order, cgroups: Sequence[int]) -> None:
    os.setsid()
    os.umask(0o077)
    for procs in cgroups:
        os.write(procs, b"0")
    unshare(_OWN_NAMESPACES if order.is_server else _OWN_NAMESPACES | CLONE_NEWNET)
    socket.sethostname(_HOSTNAME)
    furnish_room(order.uid, order.devices)
    if order.is_server:
        furnish_sockets(order.uid)


def _hand_over(log: int, descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give them their numbers, which none of them has yet."""
    silence = os.open("/dev/null", os.O_RDONLY)
    for fd, number in zip((silence, log, log, *descriptors), (0, 1, 2, *numbers), strict=True):
        os.dup2(fd, number)


def _execute(order: Order) -> None:
    os.execvpe(order.arguments[0], list(order.arguments), dict(order.environment))


def serve(arguments: Sequence[str], become: Become = _execute) -> None:
    """Serve the agent that is at the other end of the socket. All modules that children need are imported by now."""
    control, lock, *trees = arguments
    own = ForkServer(socket.socket(fileno=int(control)), int(lock), become)
    prepare_room(trees)
    own.serve()


if __name__ == "__main__":
    serve(sys.argv[1:])
