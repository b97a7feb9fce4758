"""Snapshots of an image, as the worker process handles them. Every verb may be repeated."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

from compute_agent.storage.rbd.abi import ffi
from compute_agent.storage.rbd.binding import CData, Connection, check, librbd, sized, text
from compute_agent.storage.rbd.refusals import InUse

_OF_USERS = 0
"""The kind of snapshot that somebody made by name."""
_NO_SNAPSHOT = 2**64 - 2
"""CEPH_NOSNAP: the image itself."""


def create(cluster: Connection, pool: str, image: str, snapshot: str, protect: bool) -> None:
    """Make it unless it is there; a protected one cannot be removed by mistake, nor under clones of the old format."""
    with cluster.image(pool, image) as handle:
        with suppress(FileExistsError):
            check(librbd().rbd_snap_create(handle, snapshot.encode()))
        if protect and not _is_protected(handle, snapshot):
            check(librbd().rbd_snap_protect(handle, snapshot.encode()))


def remove(cluster: Connection, pool: str, image: str, snapshot: str) -> None:
    """Remove it, protected or not. Nothing happens where it or the image is gone.

    :raises InUse: it has clones.
    """
    with suppress(FileNotFoundError), cluster.image(pool, image) as handle:
        for one in _list(handle):
            if one["name"] == snapshot:
                _remove(handle, one)


def rollback(cluster: Connection, pool: str, image: str, snapshot: str) -> None:
    """Give the image the snapshot's content and size.

    :raises InUse: somebody writes to it.
    """
    with cluster.image(pool, image) as handle:
        result = librbd().rbd_snap_rollback(handle, snapshot.encode())
        if result == -errno.EROFS:  # another has its exclusive lock
            raise InUse("is open")
        check(result)


def list_snapshots(cluster: Connection, pool: str, image: str) -> list[dict[str, Any]]:
    """``id``, ``name``, ``size`` in bytes and ``protected``, of those that were made by name."""
    with cluster.image_to_read(pool, image) as handle:
        return [
            {**one, "protected": _is_protected(handle, one["name"])} for one in _list(handle) if _is_named(handle, one)
        ]


def remove_all(cluster: Connection, pool: str, image: str) -> None:
    """Remove all snapshots.

    :raises InUse: one has clones; none has been removed.
    """
    with cluster.image_to_read(pool, image) as handle:
        snapshots = _list(handle)
        for snapshot in snapshots:
            _refuse_parent(handle, snapshot)
    if snapshots:
        with cluster.image(pool, image) as handle:
            for snapshot in snapshots:
                _remove(handle, snapshot)


def _remove(handle: CData, snapshot: dict[str, Any]) -> None:
    _refuse_parent(handle, snapshot)
    name = snapshot["name"].encode()
    if _is_protected(handle, snapshot["name"]):
        check(librbd().rbd_snap_unprotect(handle, name))
    check(librbd().rbd_snap_remove(handle, name))


def _refuse_parent(handle: CData, snapshot: dict[str, Any]) -> None:
    """The cluster would keep one with clones of the new format, out of sight, until the last of them is gone."""
    clones = _clones(handle, snapshot["id"])
    if clones:
        raise InUse(f"snapshot {snapshot['name']} has clones: {', '.join(clones)}")


def _list(handle: CData) -> list[dict[str, Any]]:
    count, result = ffi.new("int *", 0), -errno.ERANGE
    array = ffi.NULL
    while result == -errno.ERANGE:
        array = ffi.new("rbd_snap_info_t[]", max(1, count[0]))
        count[0] = len(array)
        result = librbd().rbd_snap_list(handle, array, count)
    found = [{"id": one.id, "name": text(one.name), "size": one.size} for one in array[0 : check(result)]]
    if found:
        librbd().rbd_snap_list_end(array)
    return found


def _clones(handle: CData, snapshot_id: int) -> list[str]:
    check(librbd().rbd_snap_set_by_id(handle, snapshot_id))
    try:
        array, count = sized(
            "rbd_linked_image_spec_t", lambda found, size: librbd().rbd_list_children3(handle, found, size)
        )
        clones = [f"{text(one.pool_name)}/{text(one.image_name)}" for one in array[0:count]]
        librbd().rbd_linked_image_spec_list_cleanup(array, count)
    finally:
        check(librbd().rbd_snap_set_by_id(handle, _NO_SNAPSHOT))
    return clones


def _is_named(handle: CData, snapshot: dict[str, Any]) -> bool:
    kind = ffi.new("int *")
    check(librbd().rbd_snap_get_namespace_type(handle, snapshot["id"], kind))
    return bool(kind[0] == _OF_USERS)


def _is_protected(handle: CData, snapshot: str) -> bool:
    protected = ffi.new("int *")
    check(librbd().rbd_snap_is_protected(handle, snapshot.encode(), protected))
    return bool(protected[0])
