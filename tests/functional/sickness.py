"""Monitors of guests that have been taken over: while their guest is sick each does what no QEMU does."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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
    for line in itertools.cycle(_GARBAGE):
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


class FragileGuest:
    """A guest that falls ill and recovers; its monitor passes on what is said, or raves."""

    def __init__(self, monitor: Path, pid: int, kind: Callable[[socket.socket], None]) -> None:
        """To be called while no agent knows the guest: that one would keep its connection to `monitor`."""
        self._pid = pid
        self._kind = kind
        self._is_ill = False
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._own = monitor.rename(monitor.with_name("own.sock"))
        self._listener.bind(str(monitor))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def fall_ill(self) -> None:
        """Its process is stopped dead, and whoever asks its monitor gets to know what that is like."""
        os.kill(self._pid, signal.SIGSTOP)
        self._is_ill = True
        self._hang_up()

    def recover(self) -> None:
        """As if nothing had been; who was connected has to connect again."""
        self._is_ill = False
        self._hang_up()
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        """Hang up, and listen no more."""
        _end(self._listener)
        self._hang_up()

    def _hang_up(self) -> None:
        while self._connections:
            _end(self._connections.pop())

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connections.append(client)
                threading.Thread(target=self._talk, args=[client], daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):  # the agent, or the test, hung up
            if self._is_ill:
                self._kind(client)
            else:
                self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as own:
            own.connect(str(self._own))
            threading.Thread(target=_pass_on, args=[own, client], daemon=True).start()
            _pass_on(client, own)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Until either end hangs up."""
    with suppress(OSError):
        while said := source.recv(_MIB):
            target.sendall(said)
        target.shutdown(socket.SHUT_RDWR)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
