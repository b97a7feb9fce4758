"""The freeze keeper against a guest agent's stand-in: whatever happens, the guest is thawed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded
from compute_agent.virt.qemu.freezing import Freeze
from compute_agent.virt.qemu.guest_agent import GuestAgent


class StandIn:
    """Speaks as qemu-ga does, on a socket where QEMU's would be; notes what it is told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.thawed = threading.Event()
        self.answers: Callable[[str], object] = lambda command: {"return": 1}
        self._listener = socket.create_server(str(path), family=socket.AF_UNIX)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        channel, _ = self._listener.accept()
        channel.sendall(b'{"return": "for somebody else"}\nhalf a mess')
        with channel, channel.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line.lstrip(b"\xff"))
                command = message["execute"].removeprefix("guest-fsfreeze-")
                if command == "guest-sync-delimited":
                    channel.sendall(b'\xff{"return": %d}\n' % message["arguments"]["id"])
                    continue
                self.told.append(command)
                if (answer := self.answers(command)) is not None:
                    channel.sendall(json.dumps(answer).encode() + b"\n")
                if command == "thaw":
                    self.thawed.set()


@pytest.fixture
def channel(directory: Path) -> Path:
    return directory / "agent.sock"


@pytest.fixture
def stand_in(channel: Path) -> Iterator[StandIn]:
    stand_in = StandIn(channel)
    yield stand_in
    stand_in.close()


def test_frozen_for_as_long_as_it_is_wanted(channel: Path, stand_in: StandIn) -> None:
    with Freeze(channel, 10) as freeze:
        assert stand_in.told == ["freeze"]
    assert stand_in.told == ["freeze", "thaw"]
    assert freeze.has_held


def test_thawed_by_its_own_timer(channel: Path, stand_in: StandIn) -> None:
    with Freeze(channel, 0.2) as freeze:
        assert stand_in.thawed.wait(10), "whoever wanted it has not said a word yet"
    assert not freeze.has_held


def test_thawed_when_the_one_who_wanted_it_is_gone(channel: Path, stand_in: StandIn) -> None:
    freeze = Freeze(channel, 30).__enter__()
    assert freeze._control is not None
    freeze._control.close()
    assert stand_in.thawed.wait(10)


def test_a_guest_that_refuses_is_thawed_all_the_same(channel: Path, stand_in: StandIn) -> None:
    stand_in.answers = lambda command: {"error": {"desc": "no"}} if command == "freeze" else {"return": 0}
    with Freeze(channel, 10) as freeze:
        assert stand_in.thawed.wait(10)
    assert not freeze.has_held


def test_a_guest_that_says_nothing_is_thawed_when_it_listens_again(channel: Path, stand_in: StandIn) -> None:
    stand_in.answers = lambda command: None if command == "freeze" else {"return": 0}
    with Freeze(channel, 0.2) as freeze:
        assert stand_in.thawed.wait(10)
    assert not freeze.has_held


def test_who_talks_and_never_says_what_was_asked_is_not_listened_to_for_ever() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        threading.Thread(target=chatter, args=(theirs,), daemon=True).start()
        with ours, pytest.raises(DeadlineExceeded, match="says much"):
            GuestAgent(ours).synchronize(0.1)


def chatter(channel: socket.socket) -> None:
    with suppress(OSError):
        while True:
            channel.sendall(b"[" * 3000 + b"\n" + b'{"return": "no"}\n' * 1000)


def test_without_an_agent_nothing_is_frozen(channel: Path) -> None:
    with socket.create_server(str(channel), family=socket.AF_UNIX), Freeze(channel, 10) as freeze:
        pass
    assert not freeze.has_held
    with Freeze(channel.with_name("nothing"), 10) as freeze:
        pass
    assert not freeze.has_held
