"""What a cluster knows about an image, as the worker process asks for it."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

from compute_agent.storage.rbd.abi import ffi
from compute_agent.storage.rbd.binding import CData, Connection, check, librbd, sized, text
from compute_agent.storage.rbd.refusals import Refused

FEATURES = {
    "layering": 1 << 0,
    "striping": 1 << 1,
    "exclusive-lock": 1 << 2,
    "object-map": 1 << 3,
    "fast-diff": 1 << 4,
    "deep-flatten": 1 << 5,
    "journaling": 1 << 6,
    "data-pool": 1 << 7,
}
"""Under the names that the ``rbd`` command has for them."""

_ID_SIZE = 64


def info(cluster: Connection, pool: str, image: str) -> dict[str, Any]:
    """``id``, ``size`` in bytes, ``features``, and the ``parent`` as pool/image@snapshot."""
    with cluster.image_to_read(pool, image) as handle:
        features = _number(librbd().rbd_get_features, handle)
        return {
            "id": image_id(handle),
            "size": size_of(handle),
            "features": [name for name, bit in FEATURES.items() if features & bit],
            "parent": parent_of(handle),
        }


def size_of(handle: CData) -> int:
    """Bytes."""
    return _number(librbd().rbd_get_size, handle)


def image_id(handle: CData) -> str:
    """What the objects of the image are called after, whatever its name."""
    buffer = ffi.new("char[]", _ID_SIZE)
    check(librbd().rbd_get_id(handle, buffer, _ID_SIZE))
    return text(buffer)


def watchers(cluster: Connection, pool: str, image: str) -> list[dict[str, Any]]:
    """Who has it open: ``client`` (number) and ``address``."""
    with cluster.image_to_read(pool, image) as handle:
        array, count = sized("rbd_image_watcher_t", lambda found, size: librbd().rbd_watchers_list(handle, found, size))
        found = [{"client": array[index].id, "address": text(array[index].addr)} for index in range(count)]
        librbd().rbd_watchers_list_cleanup(array, count)
    return found


def get_mark(cluster: Connection, pool: str, image: str, key: str) -> str | None:
    """A value of the image's metadata; None where there is none."""
    with cluster.image_to_read(pool, image) as handle, suppress(FileNotFoundError):
        value, _ = sized("char", lambda buffer, size: librbd().rbd_metadata_get(handle, key.encode(), buffer, size))
        return text(value)
    return None


def set_mark(cluster: Connection, pool: str, image: str, key: str, value: str) -> None:
    """Set a value of the image's metadata."""
    with cluster.image(pool, image) as handle:
        check(librbd().rbd_metadata_set(handle, key.encode(), value.encode()))


def monitors(cluster: Connection) -> str:
    """The addresses of all, as an option ``mon host`` has them."""
    found = cluster.command(prefix="mon dump")["mons"]
    return ",".join(f"[{_addresses(one['public_addrs']['addrvec'])}]" for one in found)


def _addresses(addresses: list[dict[str, str]]) -> str:
    return ",".join(f"{one['type']}:{one['addr']}" for one in addresses)


def capacity(cluster: Connection, pool: str) -> dict[str, int]:
    """Bytes that a pool can hold (``total``) and that may still be written to it (``free``), whatever the replicas."""
    with cluster.pool(pool):
        pools = cluster.command(prefix="df")["pools"]
    for found in pools:
        if found["name"] == pool:
            free, stored = found["stats"]["max_avail"], found["stats"]["stored"]
            if free + stored:  # else no manager has told the monitors
                return {"total": free + stored, "free": free}
    raise Refused("is not yet among those whose space the cluster knows")


def parent_of(handle: CData) -> str | None:
    """The snapshot that it was cloned from, as pool/image@snapshot."""
    image, snapshot = ffi.new("rbd_linked_image_spec_t *"), ffi.new("rbd_snap_spec_t *")
    result = librbd().rbd_get_parent(handle, image, snapshot)
    if result == -errno.ENOENT:
        return None
    check(result)
    try:
        return f"{text(image.pool_name)}/{text(image.image_name)}@{text(snapshot.name)}"
    finally:
        librbd().rbd_linked_image_spec_cleanup(image)
        librbd().rbd_snap_spec_cleanup(snapshot)


def _number(function: CData, handle: CData) -> int:
    number = ffi.new("uint64_t *")
    check(function(handle, number))
    return int(number[0])
