"""The monitor of a machine of our own: bytes of a client that does not keep to the protocol."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from compute_agent.errors import MonitorError
from compute_agent.virt.vmm.monitor.command import Arguments, Command, Files, Nothing
from compute_agent.virt.vmm.monitor.framing import LONGEST, Framing, TooLong
from compute_agent.virt.vmm.monitor.session import Session
from tests.fuzz.messages import said_in_lines
from tests.fuzz.mutation import spoil_bytes, spoil_json
from tests.fuzz.target import Case, Check, Target

_AT_ONCE = 100_000
"""Bytes that the socket holds: nobody reads yet."""


class _Sized(Arguments, frozen=True):
    block_size: int
    name: str = ""


def _refuse(arguments: object, files: Files) -> object:
    raise MonitorError("refused")


def _take(arguments: _Sized, files: Files) -> object:
    os.close(files.take(arguments.name))


_COMMANDS = {
    "query-status": Command(Nothing, lambda arguments, files: {"status": "running"}),
    "refuse": Command(Nothing, _refuse),
    "take": Command(_Sized, _take),
}
_CALLS: Sequence[dict[str, Any]] = (
    {"execute": "qmp_capabilities"},
    {"execute": "qmp_capabilities", "arguments": {"enable": []}},
    {"execute": "query-status", "id": 1},
    {"execute": "take", "arguments": {"block-size": 1, "name": "fd"}, "id": "x"},
    {"execute": "getfd", "arguments": {"fdname": "fd"}},
    {"execute": "closefd", "arguments": {"fdname": "fd"}},
    {"execute": "refuse", "id": None},
    {"execute": "query-commands", "id": {"a": [1]}},
)


def calls_of(random: Random, calls: Sequence[dict[str, Any]]) -> bytes:
    """Some of these, a part of them spoiled, as text or as bytes."""
    content = b""
    for _ in range(random.randint(1, 6)):
        call = json.loads(json.dumps(random.choice(calls)))
        if random.random() < 0.4:
            spoil_json(random, call)
        try:
            content += json.dumps(call).encode() + random.choice((b"", b"\r\n", b"\n", b" "))
        except RecursionError:
            content += b"[" * 3000
    return spoil_bytes(random, content) if random.random() < 0.5 else content


@contextmanager
def _open() -> Iterator[Check]:
    with said_in_lines() as lines:

        def check(case: Case) -> None:
            content = calls_of(case.random, _CALLS)
            case.show(content)
            lines.clear()
            _frame(case.random, content)
            _serve(case.random, content)
            assert not lines, f"a defect of ours: {lines}"

        yield check


def _frame(random: Random, content: bytes) -> None:
    """However it arrives, it is cut in the same places."""
    try:
        assert list(Framing().feed(content)) == [
            whole for piece in [Framing()] for whole in _fed(random, piece, content)
        ]
    except TooLong:
        assert len(content) > LONGEST


def _fed(random: Random, framing: Framing, content: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(content):
        end = place + random.randint(1, 40)
        yield from framing.feed(content[place:end])
        place = end


def _serve(random: Random, content: bytes) -> None:
    server, client = socket.socketpair()
    with client, open(os.devnull) as file:  # noqa: PTH123  (a descriptor to hand over)
        session = Session(server, _COMMANDS, {"version": {}, "capabilities": []})
        files = [file.fileno()] * random.choice((0, 0, 1, 3))
        socket.send_fds(client, [content[:_AT_ONCE]], files)
        while session.read() and session.write() and _is_waiting(server):
            pass
        session.write()
        session.close()
        _require_json(client)
    assert server.fileno() == -1


def _is_waiting(server: socket.socket) -> bool:
    try:
        return bool(server.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def _require_json(client: socket.socket) -> None:
    said = b""
    while piece := client.recv(1 << 20):
        said += piece
    for line in said.splitlines():
        message = json.loads(line)
        assert len({"QMP", "return", "error"} & message.keys()) == 1, line


TARGET = Target(name="monitor", open=_open, weight=12)
