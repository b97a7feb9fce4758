"""Monitors of guests that have been taken over: each does what no QEMU does, until it is closed."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.functional.guests import Guests

_VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
_GREETING = json.dumps({"QMP": {"version": _VERSION, "capabilities": []}}).encode()
_EVENT = json.dumps({"event": "RTC_CHANGE", "data": {}, "timestamp": {"seconds": 0, "microseconds": 0}}).encode()
_GARBAGE = (b"\x00\xff\xfe{]\n", b"[]\n", b'{"event": 1}\n', b"\n", b'{"return": {"status": []}}\n')
_MIB = 1024**2
_GIB = 1024**3


def silent(_: socket.socket) -> None:
    """It takes the connection, and that is all."""


def garbage(client: socket.socket) -> None:
    """Of all kinds, again and again."""
    for line in itertools.cycle(
        [b"\x00\xff\xfe{]\n", b"[]\n", b'{"event": 1}\n', b"\n", b'{"return": {"status": []}}\n']
    ):
        client.sendall(line)


def late(client: socket.socket) -> None:
    """It agrees to talk, and answers nothing that it is asked."""
    _agree(client)


def endless_line(client: socket.socket) -> None:
    """A gigabyte of an answer that does not end."""
    _agree(client)
    client.sendall(b'{"return": "')
    for _ in range(_GIB // _MIB):
        client.sendall(b"x" * _MIB)


def flood(client: socket.socket) -> None:
    """A gigabyte of events, each of which is well-formed."""
    _agree(client)
    events = (_EVENT + b"\r\n") * (_MIB // len(_EVENT))
    for _ in range(_GIB // _MIB):
        client.sendall(events)


KINDS = (silent, garbage, late, endless_line, flood)


def _agree(client: socket.socket) -> None:
    client.sendall(_GREETING + b"\r\n")
    client.recv(_MIB)  # what follows is not awaited: what was asked is known
    client.sendall(b'{"return": {}}\r\n')


class SickMonitor:
    """In place of a guest's own, for all who connect from now on; its process is stopped dead."""

    def __init__(self, guests: Guests, instance_uuid: str, kind: Callable[[socket.socket], None]) -> None:
        """To be called while no agent knows the guest: that one would keep its connection."""
        self._kind = kind
        self._clients: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        path = guests.node.directory / "run/guests" / instance_uuid / "monitor.sock"
        path.unlink()
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Hang up, and listen no more."""
        for end in (self._listener, *self._clients):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                threading.Thread(target=self._talk, args=[client], daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):  # the agent, or the test, hung up
            self._kind(client)
