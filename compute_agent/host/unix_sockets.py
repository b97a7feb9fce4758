"""Sockets that a process finds open when it starts."""

from __future__ import annotations

import socket
from pathlib import Path


def listen_at(path: Path, backlog: int = 1) -> socket.socket:
    """A stream socket that listens at `path`, where nothing or an old socket is; to be closed by the caller.

    Handed to a process that is only just being started, it can be connected to at once.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(bytes(path))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
