"""Servers elsewhere that a block server has connected to."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from compute_agent.host.processes import Process
from compute_agent.instance.devices import NbdSource

Peer = tuple[str, int]
"""Address and port."""


def peer_of(target: NbdSource) -> Peer | None:
    """Where the connection leads; None: it is on this host."""
    with socket.socket(fileno=os.dup(target.fd)) as connection:
        if connection.family == socket.AF_UNIX:
            return None
        host, port, *_ = connection.getpeername()
        return host, port


def peer_in(address: str) -> Peer:
    """As QEMU shows it: ``nbd://HOST:PORT/EXPORT``, without brackets."""
    host, _, port = address.removeprefix("nbd://").partition("/")[0].rpartition(":")
    return host, int(port)


def cut_off(process: Process, peers: Collection[Peer]) -> None:
    """End its connections to all of these: what waits for them fails."""
    for connection in _connections(process, peers):
        with connection, suppress(OSError):  # it has ended
            connection.shutdown(socket.SHUT_RDWR)


def _connections(process: Process, peers: Collection[Peer]) -> Iterator[socket.socket]:
    for connection in _sockets_of(process):
        try:
            is_one = connection.getpeername()[:2] in peers
        except OSError:  # it has ended, or is none
            is_one = False
        if is_one:
            yield connection
        else:
            connection.close()


def _sockets_of(process: Process) -> Iterator[socket.socket]:
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            if entry.readlink().name.startswith("socket:"):
                yield socket.socket(fileno=process.copy_descriptor(int(entry.name)))
