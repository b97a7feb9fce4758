"""Connections to a block server's sockets, for hypervisors that inherit them."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.host.confinement.room import SOCKET_DIRECTORY
from compute_agent.host.processes import Process

OWN_NBD_SOCKET = "nbd.sock"
"""In the directory of the server's own sockets, since a guest has come in."""
_TIMEOUT = 5
"""Seconds; it is accepted as soon as the server has nothing else to do."""
_GREETING, _GREETING_SIZE = b"NBDMAGIC", 18
_OPTION, _ABORT = b"IHAVEOPT", 2
_GOODBYE = struct.pack(">I8sII", 1, _OPTION, _ABORT, 0)
"""A client of the fixed newstyle, who wants to leave."""
_OUT_OF_THE_WAY = 768
"""Below the customary limit of 1024.

A QEMU whose NBD server has died goes on trying the number of the descriptor, which it has closed. Whatever got that
number would be taken for a new connection, or closed. The kernel always gives the lowest number that is free: so high
a one that was inherited is never given again.
"""


def connect_to_nbd(path: Path, process: Process) -> int:
    """A descriptor with a high number. Where the socket is not at `path`, the server has made one of its own.

    :raises StorageError: nobody listens, or too many descriptors are open.
    :raises DeadlineExceeded: the server has too many others to accept.
    """
    with ExitStack() as opened, socket.socket(socket.AF_UNIX) as connection:
        _connect(connection, path if path.exists() else _find(opened, process, OWN_NBD_SOCKET))
        try:
            return fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        except OSError as error:
            raise StorageError(f"block server: no number above {_OUT_OF_THE_WAY} is free: {error}") from error


def await_nbd(path: Path, seconds: float) -> None:
    """Wait until a server that has only just been started serves NBD: its main loop runs then.

    Only after that may its monitor be connected to. QEMU 7.2 gives a monitor a thread of its own; where a client is
    there before, that thread and the main one may both set the connection up, and nothing that is said on it, or on any
    later one, is ever read.

    Source: the NBD protocol (doc/proto.md), newstyle negotiation.

    :raises StorageError: it has ended.
    :raises DeadlineExceeded: it does not serve yet.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        _connect(connection, path)
        connection.settimeout(seconds)
        try:
            greeting = connection.recv(_GREETING_SIZE)
            connection.sendall(_GOODBYE)
            connection.recv(_GREETING_SIZE)
        except TimeoutError:
            raise DeadlineExceeded(f"block server: it does not serve within {seconds:g} s") from None
        except OSError as error:
            raise StorageError(f"block server: it has ended: {error}") from error
    if not greeting.startswith(_GREETING):
        raise StorageError("block server: it has ended")


def connect_to_vhost_user(process: Process, export: str) -> int:
    """:raises StorageError: nobody listens. :raises DeadlineExceeded: the server has too many others to accept."""
    with ExitStack() as opened, socket.socket(socket.AF_UNIX) as connection:
        _connect(connection, _find(opened, process, f"{export}.sock"))
        return connection.detach()


def open_directory(opened: ExitStack, process: Process) -> int:
    """That of the server's own sockets, which only it sees: links in there are not to be followed.

    :raises StorageError: the server has ended.
    """
    return _open(opened, f"/proc/{process.pid}/root{SOCKET_DIRECTORY}", os.O_DIRECTORY)


def _find(opened: ExitStack, process: Process, name: str) -> Path:
    found = _open(opened, name, 0, open_directory(opened, process))
    return Path(f"/proc/self/fd/{found}")


def _open(opened: ExitStack, path: str, flags: int, directory: int | None = None) -> int:
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=directory)
    except OSError as error:
        raise StorageError(f"block server: {error}") from error
    opened.callback(os.close, fd)
    return fd


def _connect(connection: socket.socket, path: Path) -> None:
    """While the server has others to accept first it is waited for, by the kernel: Python's time-out would not let it.

    Source: unix(7) and socket(7), SO_SNDTIMEO.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _TIMEOUT, 0))
    try:
        connection.connect(bytes(path))
    except BlockingIOError:
        raise DeadlineExceeded(f"block server: {path}: nobody is accepted within {_TIMEOUT} s") from None
    except OSError as error:
        raise StorageError(f"block server: {path}: {error}") from error
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))
