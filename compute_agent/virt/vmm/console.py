"""A person at the serial port: whoever connects to its socket, one at a time; the next one waits."""

from __future__ import annotations

import select
import socket
import threading
from typing import Protocol

_MOST_AT_ONCE = 4096
_LOOK_AGAIN = 0.02
"""Seconds, until the guest has read some of what was typed."""


class Port(Protocol):
    """The serial port's other end."""

    def attach_client(self, client: socket.socket) -> None:
        """What the guest writes goes there, too, as far as it is taken."""

    def detach_client(self) -> None:
        """Nobody is there any more."""

    def receive(self, data: bytes) -> int:
        """Give the guest something to read; how many bytes of it fit."""


class ConsoleServer:
    """A thread that serves as soon as it is made."""

    def __init__(self, listener: socket.socket, port: Port) -> None:
        """It owns the socket, which listens already."""
        self._listener = listener
        self._port = port
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                self._port.attach_client(client)
                try:
                    self._pass_on(client)
                finally:
                    self._port.detach_client()

    def _pass_on(self, client: socket.socket) -> None:
        """What is typed, until they hang up."""
        while data := _read(client):
            while data := data[self._port.receive(data) :]:
                if _has_hung_up_within(client, _LOOK_AGAIN):
                    return


def _read(client: socket.socket) -> bytes:
    try:
        return client.recv(_MOST_AT_ONCE)
    except OSError:
        return b""


def _has_hung_up_within(client: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(1000 * seconds))
