"""Who may write to an image: its owner, by a lock of ours; and whose librbd does, by a lock of its own.

Ours lies on the image's header object beside librbd's, and outlives crashes: only its release ends it. Its cookie says
whose it is, because the cluster would not tell the lock's description to a client. An agent that has been started again
is another client to the cluster; what is called the same is its own.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from compute_agent.storage.rbd.abi import ffi
from compute_agent.storage.rbd.binding import CData, Connection, check, librados, librbd, text
from compute_agent.storage.rbd.facts import image_id
from compute_agent.storage.rbd.refusals import InUse

LOCK = b"compute_agent"

_EXCLUSIVE = 0


def take(cluster: Connection, pool: str, image: str, owner: str) -> None:
    """Make `owner` the image's one owner, unless it is already.

    :raises InUse: somebody else is.
    """
    with _header(cluster, pool, image) as (ioctx, header):
        result = librados().rados_lock_exclusive(ioctx, header, LOCK, owner.encode(), b"", ffi.NULL, 0)
        if result not in (-errno.EBUSY, -errno.EEXIST):
            check(result)
            return
        holder = _holder(ioctx, header)
    if holder is None:  # released since
        take(cluster, pool, image, owner)
    elif holder["owner"] != owner:
        raise InUse(f"belongs to {holder['owner']} (client at {holder['address']})")


def release(cluster: Connection, pool: str, image: str, owner: str) -> None:
    """End the lock of `owner`, whichever client took it. Nothing happens where it has none, or the image is gone."""
    with suppress(FileNotFoundError), _header(cluster, pool, image) as (ioctx, header):
        holder = _holder(ioctx, header)
        if holder is not None and holder["owner"] == owner:
            client = holder["client"].encode()
            check(librados().rados_break_lock(ioctx, header, LOCK, client, owner.encode()))


def holder(cluster: Connection, pool: str, image: str) -> dict[str, str] | None:
    """``owner``, with the ``client`` that took the lock and its ``address``; None where nobody has it."""
    with _header(cluster, pool, image) as (ioctx, header):
        return _holder(ioctx, header)


def writers(cluster: Connection, pool: str, image: str) -> list[str]:
    """The clients whose librbd holds, or held when it died, the image's exclusive lock: one, if any."""
    with cluster.image(pool, image) as handle:
        return _writers(handle)


def break_writers(cluster: Connection, pool: str, image: str) -> list[str]:
    """Take librbd's exclusive lock from whoever has it; whom it was taken from.

    The cluster accepts nothing from that client any more, for an hour: one that was believed dead and is not can do no
    harm. The next one, though on the same host, is another client. A part of the cluster may be a moment late to learn
    of it, but not later than when the next client reads or writes there.
    """
    with cluster.image(pool, image) as handle:
        found = _writers(handle)
        for owner in found:
            with suppress(FileNotFoundError):
                check(librbd().rbd_lock_break(handle, _EXCLUSIVE, owner.encode()))
    return found


@contextmanager
def _header(cluster: Connection, pool: str, image: str) -> Iterator[tuple[CData, bytes]]:
    with cluster.image_to_read(pool, image) as handle:
        header = f"rbd_header.{image_id(handle)}".encode()
    with cluster.pool(pool) as ioctx:
        yield ioctx, header


def _holder(ioctx: CData, header: bytes) -> dict[str, Any] | None:
    sizes = [ffi.new("size_t *", 0) for _ in range(4)]
    result, buffers = -errno.ERANGE, []
    while result == -errno.ERANGE:
        buffers = [ffi.new("char[]", max(1, size[0])) for size in sizes]
        for buffer, size in zip(buffers, sizes, strict=True):
            size[0] = len(buffer)
        pairs = [argument for pair in zip(buffers, sizes, strict=True) for argument in pair]
        result = librados().rados_list_lockers(ioctx, header, LOCK, ffi.new("int *"), *pairs)
    if result == -errno.ENOENT or check(result) == 0:
        return None
    _, client, cookie, address = map(text, buffers)
    return {"owner": cookie, "client": client, "address": address}


def _writers(handle: CData) -> list[str]:
    owners, count, mode = ffi.new("char *[]", 1), ffi.new("size_t *", 1), ffi.new("int *")
    result = librbd().rbd_lock_get_owners(handle, mode, owners, count)
    if result == -errno.ENOENT:
        return []
    check(result)
    found = [text(owner) for owner in owners[0 : count[0]]]
    librbd().rbd_lock_get_owners_cleanup(owners, count[0])
    return found
