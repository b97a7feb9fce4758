"""A guest's monitor that has been taken over: whatever it sends, whoever asks it gets an answer or an error of ours."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.host import qmp
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Monitor, MonitorLoop
from compute_agent.host.unix_sockets import listen_at
from tests.fuzz.mutation import spoil_bytes, spoil_json
from tests.fuzz.target import Case, Check, Target

_GREETING: dict[str, Any] = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}
_AGREED: dict[str, Any] = {"return": {}}
_DEADLINE = 0.2
"""Seconds; of an answer that does not come."""
_PATIENCE = 0.02
_EVENT = {"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 1}}
_ERROR = {"error": {"class": "GenericError", "desc": "no"}}
_LARGE = 24 * 1024**2
"""Bytes without an end of line: more than the library takes."""


class Ears:
    """Hears events."""

    def hear(self, event: Mapping[str, Any]) -> None: ...


class Liar:
    """Listens at `path`, and says to each client what the case says, piece by piece."""

    def __init__(self, path: Path) -> None:
        self.says: list[bytes] = []
        self._listener = listen_at(path)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listener.accept()[0] as client, suppress(OSError):
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        """It answers with what it has for each thing that is asked, and hangs up at the end."""
        client.settimeout(_PATIENCE)
        for number, piece in enumerate(self.says):
            client.sendall(_with_id(piece, client.recv(65536)) if number else piece)

    def close(self) -> None:
        self._listener.close()


def _with_id(piece: bytes, asked: bytes) -> bytes:
    """The library looks for the id that it has sent."""
    with suppress(ValueError, TypeError, KeyError):
        return piece.replace(b'"ID"', json.dumps(json.loads(asked)["id"]).encode())
    return piece


def _said(random: Random) -> list[bytes]:
    """Greeting, agreement, answer; some of it spoiled, with events between."""
    answer = random.choice(({"return": random.choice(({}, [], {"status": "running"}, 5))}, _ERROR)) | {"id": "ID"}
    said = [[_GREETING], [_AGREED | {"id": "ID"}], [answer]]
    pieces = []
    for messages in said:
        copies = [json.loads(json.dumps(one)) for one in messages]
        if random.random() < 0.3:
            copies.insert(random.randint(0, 1), json.loads(json.dumps(_EVENT)))
        pieces.append(b"".join(_encoded(random, one) for one in copies))
    if random.random() < 0.001:
        pieces[-1] = b"[" * _LARGE
    return pieces


def _encoded(random: Random, message: dict[str, Any]) -> bytes:
    if random.random() < 0.3:
        spoil_json(random, message)
    try:
        content = json.dumps(message).encode() + b"\r\n"
    except RecursionError:
        content = b"[" * 5000 + b"]" * 5000 + b"\n"
    return spoil_bytes(random, content, 3) if random.random() < 0.3 else content


@contextmanager
def _open() -> Iterator[Check]:
    with (
        tempfile.TemporaryDirectory(prefix="fz-") as directory,
        mock.patch.multiple(qmp, _PAUSE=0.0, _END_SEEN_WITHIN=0.0),
    ):
        path = Path(directory) / "m"
        liar, loop, ears = Liar(path), MonitorLoop(), Ears()
        process = Process(os.getpid(), os.pidfd_open(os.getpid()))

        def check(case: Case) -> None:
            liar.says = _said(case.random)
            case.show([piece[:500] for piece in liar.says])
            monitor = Monitor(loop, path, process, ears.hear)
            try:
                monitor.execute("query-status", deadline=_DEADLINE)
            except (MonitorError, DeadlineExceeded):
                pass
            finally:
                monitor.close()

        yield check
        loop.close()
        liar.close()


TARGET = Target(name="qmp-reader", open=_open, weight=0.2, deadline=10.0)
