"""Holds a guest's file systems frozen: ``python -m compute_agent.virt.qemu.freeze_keeper CHANNEL CONTROL SECONDS``.

A process of its own, because a guest that stays frozen is lost to its owner: it thaws when it is told to, when the
agent that it was started by is gone, and when its time is over, whichever comes first. Nothing less than its own death
by SIGKILL keeps it from that. The two numbers are descriptors: the guest agent's channel, and the agent's socket.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, MonitorError
from compute_agent.host.confinement.privileges import drop_privileges
from compute_agent.host.confinement.system_calls import REFUSED, refuse_system_calls
from compute_agent.virt.qemu.guest_agent import GuestAgent

FROZEN, THAWED, LATE, FAILED = b"frozen", b"thawed", b"late", b"failed: "

_ANSWERS_WITHIN = 2.0
"""Seconds that a guest agent gets to show that it is there."""
_THAW_ATTEMPT = 5.0
_THAW_WITHIN = 600.0
"""Seconds for all attempts: the guest may be paused, or starved."""
_PAUSE = 0.5
_NOBODY = 65534
_LONGEST_MESSAGE = 64


def keep(agent: GuestAgent, control: socket.socket, seconds: float) -> None:
    """Freeze, wait, thaw; says how it went."""
    try:
        agent.synchronize(_ANSWERS_WITHIN)
        due = time.monotonic() + seconds
        try:
            agent.ask("guest-fsfreeze-freeze", seconds)
            _say(control, FROZEN)
            in_time = _is_told(control, due - time.monotonic())
        finally:
            _thaw(agent)  # also after no answer: the guest may still be about to freeze
        _say(control, THAWED if in_time else LATE)
    except (ComputeAgentError, OSError) as error:
        _say(control, FAILED + str(error).encode())


def _is_told(control: socket.socket, seconds: float) -> bool:
    """Also by hanging up. What is said is taken: else closing would reset the connection, and our answer be lost."""
    control.settimeout(max(0.001, seconds))
    try:
        control.recv(_LONGEST_MESSAGE)
    except TimeoutError:
        return False
    return True


def _thaw(agent: GuestAgent) -> None:
    end = time.monotonic() + _THAW_WITHIN
    while True:
        try:
            agent.synchronize(_THAW_ATTEMPT)
            agent.ask("guest-fsfreeze-thaw", _THAW_ATTEMPT)
        except (MonitorError, DeadlineExceeded):
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _say(control: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to hear it
        control.send(what)


def main(arguments: Sequence[str]) -> None:
    """Begin when the agent has started this process; end when the guest is thawed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel, control, seconds = arguments
    if os.geteuid() == 0:
        drop_privileges(_NOBODY)
        refuse_system_calls(REFUSED)
    ends = (socket.socket(fileno=int(number)) for number in (channel, control))
    with next(ends) as guest, next(ends) as told:
        keep(GuestAgent(guest), told, float(seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
