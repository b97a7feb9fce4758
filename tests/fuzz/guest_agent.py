"""A guest's system that answers its guest agent's channel with whatever it likes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from unittest import mock

from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.virt.qemu import guest_agent
from compute_agent.virt.qemu.guest_agent import GuestAgent
from tests.fuzz.mutation import any_value, spoil_bytes
from tests.fuzz.target import Case, Check, Target

_NUMBER = 7
"""That a client chooses to be sent back."""
_WAITS = 0.01
"""Seconds."""


def _said(random: Random) -> bytes:
    content = b""
    for _ in range(random.randint(0, 5)):
        answers = ({"return": _NUMBER}, {"return": {}}, {"error": {"class": "x", "desc": "no"}}, any_value(random))
        try:
            line = json.dumps(random.choice(answers)).encode()
        except RecursionError:
            line = b"[" * 5000
        content += random.choice((b"", b"\xff")) + line + b"\n" * random.choice((0, 1, 1, 1, 30))
    return spoil_bytes(random, content, 3) if random.random() < 0.4 else content


@contextmanager
def _open() -> Iterator[Check]:
    with mock.patch.object(guest_agent.random, "randrange", lambda below: _NUMBER):

        def check(case: Case) -> None:
            content = _said(case.random)
            case.show(content)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(content)
                if case.random.random() < 0.9:
                    theirs.shutdown(socket.SHUT_WR)
                agent = GuestAgent(ours)
                with suppress(MonitorError, DeadlineExceeded, OSError):
                    agent.synchronize(_WAITS)
                    agent.ask("guest-fsfreeze-freeze", _WAITS)

        yield check


TARGET = Target(name="guest-agent", open=_open, weight=6)
