"""A monitor that is not ready to agree with a new client at once."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compute_agent.errors import DeadlineExceeded
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Monitor, MonitorLoop
from compute_agent.host.unix_sockets import listen_at

GREETING = {"QMP": {"version": {}, "capabilities": []}}
BUSY = {"error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete"}}


class Listener:
    def hear(self, event: Mapping[str, Any]) -> None: ...


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[[int], object]]:
    """Asks a monitor that sends so many clients away before it agrees with one."""
    loop, monitors, listener = MonitorLoop(), [], Listener()

    def ask(refused: int) -> object:
        path = tmp_path / "monitor.sock"
        threading.Thread(target=serve, args=(listen_at(path), refused), daemon=True).start()
        process = Process(os.getpid(), os.pidfd_open(os.getpid()))
        monitors.append(Monitor(loop, path, process, listener.hear))
        return monitors[-1].execute("query-status", deadline=5)

    yield ask
    for monitor in monitors:
        monitor.close()
    loop.close()


def serve(listening: socket.socket, refused: int) -> None:
    with listening:
        for number in range(refused + 1):
            client, _ = listening.accept()
            with client, client.makefile("rwb") as stream:
                say(stream, GREETING)
                request = read(client)
                say(stream, BUSY if number < refused else {"return": {}, "id": request.get("id")})
                if number == refused:
                    say(stream, {"return": "well", "id": read(client)["id"]})


def say(stream: Any, message: object) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def read(client: socket.socket) -> dict[str, Any]:
    """One that comes in one piece."""
    request: dict[str, Any] = json.loads(client.recv(65536))
    return request


@pytest.mark.parametrize("refused", [0, 1, 3])
def test_a_client_that_is_sent_away_comes_again(ask: Callable[[int], object], refused: int) -> None:
    assert ask(refused) == "well"


@pytest.mark.parametrize("said", [b'{"return": "\xff"}', b'{"return": {}, "id": {}}', b"[" * 5000 + b"]" * 5000, b"5"])
def test_what_no_monitor_says_is_a_lost_connection(tmp_path: Path, said: bytes) -> None:
    """And the next one who asks is served by a new one."""
    path, loop, listener = tmp_path / "monitor.sock", MonitorLoop(), Listener()
    threading.Thread(target=serve_nonsense, args=(listen_at(path), said), daemon=True).start()
    monitor = Monitor(loop, path, Process(os.getpid(), os.pidfd_open(os.getpid())), listener.hear)
    with pytest.raises(DeadlineExceeded, match="the connection to the monitor was lost"):
        monitor.execute("query-status", deadline=5)
    assert monitor.execute("query-status", deadline=5) == "well"
    monitor.close()
    loop.close()


def serve_nonsense(listening: socket.socket, said: bytes) -> None:
    """To the first client that asks; then as a monitor should."""
    client, _ = listening.accept()
    with client, client.makefile("rwb") as stream:
        say(stream, GREETING)
        say(stream, {"return": {}, "id": read(client).get("id")})
        read(client)
        stream.write(said + b"\n")
    serve(listening, refused=0)


def test_but_not_for_ever(ask: Callable[[int], object]) -> None:
    with pytest.raises(DeadlineExceeded, match="Negotiation failed"):
        ask(100)
