"""TCP sockets that this process opens for others: QEMU, which has no network, gets them as descriptors."""

from __future__ import annotations

import errno
import socket

from compute_agent.errors import DeadlineExceeded, HostError

_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 6}
"""A link that is cut is noticed after 45 s."""
_PATIENT = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 40}
"""After ten minutes."""


def resolve(host: str) -> str:
    """An address of that host.

    :raises HostError: its name has none.
    """
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:  # the latter of what no name can be
        raise HostError(f"{host!r} has no address: {error}") from error


def listen_on(address: str, first_port: int, last_port: int) -> socket.socket:
    """A listening socket on the first free port.

    :raises HostError: none is free, or the address is not this host's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first_port, last_port + 1):
        try:
            return socket.create_server((address, port), family=family, backlog=8)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise HostError(f"nothing can listen on {address}: {error.strerror}") from error
    raise HostError(f"no port from {first_port} to {last_port} of {address} is free")


def dial(address: str, port: int, own_address: str, seconds: float) -> socket.socket:
    """A connection from `own_address`.

    :raises HostError: nobody listens there.
    :raises DeadlineExceeded: no answer within `seconds`.
    """
    try:
        connection = socket.create_connection((address, port), seconds, source_address=(own_address, 0))
    except TimeoutError:
        raise DeadlineExceeded(f"{address}:{port} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise HostError(f"{address}:{port} cannot be reached from {own_address}: {error.strerror}") from error
    return keep_alive(connection)


def keep_alive(connection: socket.socket, *, patient: bool = False) -> socket.socket:
    """The connection, which notices when the other host is gone, and sends small messages at once."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (_PATIENT if patient else _KEEPALIVE).items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection
