"""librados and librbd through cffi. What they refuse is an OSError with their own number: FileNotFoundError and so on.

Only the worker process uses this: their threads, and calls that never return, have no place in the agent.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from compute_agent.storage.rbd.abi import ffi

CData = Any
"""A structure or pointer of cffi's."""

_FSID_SIZE = 37
_CONNECT_TIMEOUT = 3
"""Seconds; the one limit that librados keeps to when no monitor answers."""


@cache
def librados() -> CData:
    """:raises OSError: it is not installed."""
    return ffi.dlopen("librados.so.2")


@cache
def librbd() -> CData:
    """:raises OSError: it is not installed."""
    return ffi.dlopen("librbd.so.1")


def check(result: int) -> int:
    """:raises OSError: a negative result, which is an error's number."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def text(pointer: CData) -> str:
    """A C string's characters."""
    return bytes(ffi.string(pointer)).decode(errors="replace")


def sized(kind: str, call: Callable[[CData, CData], int]) -> tuple[CData, int]:
    """An array that `call` fills, and how much of it counts; it is asked again with what it says that it needs."""
    count = ffi.new("size_t *", 0)
    result, array = -errno.ERANGE, ffi.NULL
    while result == -errno.ERANGE:
        array = ffi.new(f"{kind}[]", max(1, count[0]))
        count[0] = len(array)
        result = call(array, count)
    check(result)
    return array, count[0]


class Connection:
    """One cluster, as one user. It lives as long as the process.

    :raises OSError: no monitor answers, or the key is wrong.
    """

    def __init__(self, cluster_name: str, conf: str, user: str, key: str) -> None:
        handle = ffi.new("rados_t *")
        check(librados().rados_create2(handle, cluster_name.encode(), f"client.{user}".encode(), 0))
        self._cluster = handle[0]
        check(librados().rados_conf_read_file(self._cluster, conf.encode()))
        options = {
            "client_mount_timeout": str(_CONNECT_TIMEOUT),
            "key": key,
            "admin_socket": "",
        }  # it would show the key
        for name, value in options.items():
            check(librados().rados_conf_set(self._cluster, name.encode(), value.encode()))
        check(librados().rados_connect(self._cluster))

    def fsid(self) -> str:
        """The cluster's own uuid."""
        buffer = ffi.new("char[]", _FSID_SIZE)
        check(librados().rados_cluster_fsid(self._cluster, buffer, _FSID_SIZE))
        return text(buffer)

    def address(self) -> str:
        """What this connection is called by the cluster."""
        address = ffi.new("char **")
        check(librados().rados_getaddrs(self._cluster, address))
        try:
            return text(address[0])
        finally:
            librados().rados_buffer_free(address[0])

    def block(self, addresses: Sequence[str]) -> None:
        """Nothing that these connections had under way arrives any more, and what they had open or locked is free."""
        for address in addresses:
            check(librados().rados_blocklist_add(self._cluster, ffi.new("char[]", address.encode()), 0))

    def command(self, **words: str) -> Any:
        """What the monitor answers, read from JSON."""
        command = ffi.new("char[]", json.dumps({**words, "format": "json"}).encode())
        output, size = ffi.new("char **"), ffi.new("size_t *")
        arguments = (ffi.new("const char *[]", [command]), 1, ffi.NULL, 0, output, size, ffi.NULL, ffi.NULL)
        check(librados().rados_mon_command(self._cluster, *arguments))
        try:
            return json.loads(bytes(ffi.buffer(output[0], size[0])))
        finally:
            librados().rados_buffer_free(output[0])

    @contextmanager
    def pool(self, name: str) -> Iterator[CData]:
        """Open a pool."""
        ioctx = ffi.new("rados_ioctx_t *")
        check(librados().rados_ioctx_create(self._cluster, name.encode(), ioctx))
        try:
            yield ioctx[0]
        finally:
            librados().rados_ioctx_destroy(ioctx[0])

    @contextmanager
    def image(self, pool: str, name: str) -> Iterator[CData]:
        """Open an image to change it; meanwhile it has one watcher more."""
        with self.pool(pool) as ioctx, _opened(librbd().rbd_open, ioctx, name) as image:
            yield image

    @contextmanager
    def image_to_read(self, pool: str, name: str) -> Iterator[CData]:
        """Open an image to look at it; nobody sees that."""
        with self.pool(pool) as ioctx, _opened(librbd().rbd_open_read_only, ioctx, name) as image:
            yield image


@contextmanager
def _opened(function: CData, ioctx: CData, name: str) -> Iterator[CData]:
    image = ffi.new("rbd_image_t *")
    check(function(ioctx, name.encode(), image, ffi.NULL))
    try:
        yield image[0]
    finally:
        librbd().rbd_close(image[0])
