"""Connections over the network for other processes, which cannot look after them."""

from __future__ import annotations

import socket

_SILENCE = 10
"""Seconds after which a peer that says nothing is asked whether it is there."""
_ATTEMPTS = 3
_UNACKNOWLEDGED = 30.0
"""Seconds that what is sent, or asked, may go unacknowledged before the connection is lost."""


def connect_over_network(host: str, port: int, seconds: float) -> int:
    """A connected TCP socket's descriptor, which the caller closes; one whose peer dies unheard breaks by itself.

    :raises OSError: nobody answers there, in time or at all.
    """
    with socket.create_connection((host, port), seconds) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ATTEMPTS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNACKNOWLEDGED * 1000))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(True)
        return connection.detach()
