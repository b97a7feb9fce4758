"""One GET over HTTP that ends by its deadline, whatever the server does.

urllib follows redirects, but offers no deadline for the whole: a server that sends one byte now and then
would hold a boot, and the image's lock, for days. Hence http.client and a watchdog on its socket.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urljoin, urlsplit

from compute_agent.errors import InvalidImage, StorageError

MAX_REDIRECTS = 5

_CONNECTIONS: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_SUCH_PART = frozenset({HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
"""The first: another part than the one that was asked for."""


def without_secrets(url: str) -> str:
    """The URL as it may be shown and logged: signed URLs carry their secret in the query."""
    return url.partition("?")[0]


@contextmanager
def get(url: str, connect_timeout: float, deadline: float, offset: int = 0) -> Iterator[tuple[HTTPResponse, int]]:
    """The answer to a GET, after redirects; its content ends early where the deadline (`time.monotonic`) passes.

    It begins at `offset`, or at 0 where the server has no such part, or does not know of parts: with the answer comes
    which. No ``If-Range``: the image's checksum says more about the whole than a server's word.

    :raises InvalidImage: the URL, or one that it redirects to, is not usable.
    :raises StorageError: the server answered something else.
    :raises OSError: or HTTPException: no connection, or no sensible answer on it.
    """
    target = url
    for _ in range(MAX_REDIRECTS + 1):
        parts = _split(target)
        with closing(_connect(parts, connect_timeout)) as connection, _cut_off(connection.sock, deadline):
            response = _request(connection, parts, offset)
            if response.status == HTTPStatus.OK or (offset and _begins_at(response, offset)):
                yield response, 0 if response.status == HTTPStatus.OK else offset
                return
            if offset and response.status in _NO_SUCH_PART:
                offset = 0
            else:
                target = urljoin(target, _location(target, response))
    raise StorageError(f"{without_secrets(url)}: more than {MAX_REDIRECTS} redirects")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _CONNECTIONS and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError as error:
        raise InvalidImage("url", without_secrets(url), f"not a usable URL: {error}") from error
    if not usable:
        raise InvalidImage("url", without_secrets(url), "not a usable http or https URL")
    if "@" in parts.netloc:
        # Not in the answer either: a password would end up in logs.
        raise InvalidImage("url", f"{parts.scheme}://{parts.hostname}", "must not carry a user name or password")
    return parts


def _connect(parts: SplitResult, timeout: float) -> HTTPConnection:
    connection = _CONNECTIONS[parts.scheme](parts.hostname or "", parts.port, timeout=timeout)
    connection.connect()
    return connection


def _request(connection: HTTPConnection, parts: SplitResult, offset: int) -> HTTPResponse:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    part = {"Range": f"bytes={offset}-"} if offset else {}
    connection.request("GET", path, headers={"User-Agent": "compute-agent", **part})
    return connection.getresponse()


def _begins_at(response: HTTPResponse, offset: int) -> bool:
    found = response.getheader("Content-Range", "")
    return response.status == HTTPStatus.PARTIAL_CONTENT and found.startswith(f"bytes {offset}-")


def _location(url: str, response: HTTPResponse) -> str:
    location = response.getheader("Location")
    if response.status not in _REDIRECTS or not location:
        raise StorageError(f"{without_secrets(url)}: the server answered with status {response.status}")
    return location


@contextmanager
def _cut_off(sock: socket.socket, deadline: float) -> Iterator[None]:
    watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), _shut_down, (sock,))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        # Past SSLSocket's own shutdown, which changes the object under its reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
