"""Images of a pool, as the worker process handles them. Every verb may be repeated."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from compute_agent.storage.rbd import snapshots
from compute_agent.storage.rbd.abi import ffi
from compute_agent.storage.rbd.binding import CData, Connection, check, librbd, sized, text
from compute_agent.storage.rbd.claims import claim, disclaim, is_claimed
from compute_agent.storage.rbd.facts import FEATURES, info, parent_of, size_of, watchers
from compute_agent.storage.rbd.refusals import InUse, Refused

OWN_FEATURES = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")
"""Of the images that are made here."""

_OPTION_FEATURES, _OPTION_CLONE_FORMAT = 1, 12


def create(cluster: Connection, pool: str, image: str, size: int) -> None:
    """An empty image; one of the same size that is there already is taken for it."""
    with cluster.pool(pool) as ioctx, _options({_OPTION_FEATURES: _own_features()}) as options:
        made = _make(ioctx, image, lambda: librbd().rbd_create4(ioctx, image.encode(), size, options))
    there = {} if made else info(cluster, pool, image)
    if there and (there["size"], there["parent"]) != (size, None):
        raise Refused(f"exists with {there['size']} bytes and the parent {there['parent']}")


def clone(cluster: Connection, pool: str, image: str, parent: Sequence[str]) -> None:
    """A copy-on-write clone of a snapshot (pool, image, snapshot), which need not be protected for it."""
    parent_pool, parent_image, snapshot = parent
    wanted = {_OPTION_FEATURES: _own_features(), _OPTION_CLONE_FORMAT: 2}
    with cluster.pool(parent_pool) as source, cluster.pool(pool) as ioctx, _options(wanted) as options:
        words = (source, parent_image.encode(), snapshot.encode(), ioctx, image.encode(), options)
        if not _is_clone(cluster, pool, image, f"{parent_pool}/{parent_image}@{snapshot}"):
            claim(ioctx, image)
            _make(ioctx, image, lambda: librbd().rbd_clone3(*words))
        disclaim(ioctx, image)


def _is_clone(cluster: Connection, pool: str, image: str, parent: str) -> bool:
    """Whether the clone is there; half of one that a crash left is removed.

    :raises Refused: something else is there.
    """
    if not exists(cluster, pool, image):
        return False
    found = info(cluster, pool, image)["parent"]
    if found == parent:
        return True
    with cluster.pool(pool) as ioctx:
        if found is not None or not is_claimed(ioctx, image):
            raise Refused(f"exists with the parent {found}")
    remove(cluster, pool, image)
    return False


def exists(cluster: Connection, pool: str, image: str) -> bool:
    """Whether there is such an image."""
    with suppress(FileNotFoundError), cluster.pool(pool) as ioctx:
        return _can_be_opened(ioctx, image)
    return False


def remove(cluster: Connection, pool: str, image: str) -> None:
    """Remove it with its snapshots. Nothing happens where there is none.

    :raises InUse: somebody has it open, or a snapshot has clones.
    """
    with suppress(FileNotFoundError):
        found = watchers(cluster, pool, image)
        if found:
            raise InUse("is open: " + ", ".join(f"client.{one['client']} at {one['address']}" for one in found))
        snapshots.remove_all(cluster, pool, image)
    with suppress(FileNotFoundError), cluster.pool(pool) as ioctx:
        _remove(ioctx, image)  # of what cannot be opened, too: a crash left it half made or half removed
        disclaim(ioctx, image)


def rename(cluster: Connection, pool: str, image: str, name: str) -> None:
    """Give it another name."""
    with cluster.pool(pool) as ioctx:
        check(librbd().rbd_rename(ioctx, image.encode(), name.encode()))


def resize(cluster: Connection, pool: str, image: str, size: int) -> None:
    """Grow it; refused where that would cut something off."""
    with cluster.image(pool, image) as handle:
        now = size_of(handle)
        if now > size:
            raise Refused(f"has {now} bytes, and is not shrunk to {size}")
        if now < size:
            check(librbd().rbd_resize(handle, size))


def flatten(cluster: Connection, pool: str, image: str) -> None:
    """Make it independent of its parent, if it has one."""
    with cluster.image(pool, image) as handle:
        if parent_of(handle) is not None:
            check(librbd().rbd_flatten(handle))


def list_images(cluster: Connection, pool: str) -> list[str]:
    """The names."""
    with cluster.pool(pool) as ioctx:
        array, count = sized("rbd_image_spec_t", lambda images, size: librbd().rbd_list2(ioctx, images, size))
        names = [text(array[index].name) for index in range(count)]
        librbd().rbd_image_spec_list_cleanup(array, count)
    return names


def _make(ioctx: CData, image: str, make: Callable[[], int]) -> bool:
    """False: there is one already. One that a crash left half made cannot be opened, and is made anew."""
    result = make()
    if result == -errno.EEXIST:
        if _can_be_opened(ioctx, image):
            return False
        _remove(ioctx, image)
        result = make()
    check(result)
    return True


def _can_be_opened(ioctx: CData, image: str) -> bool:
    handle = ffi.new("rbd_image_t *")
    result = librbd().rbd_open_read_only(ioctx, image.encode(), handle, ffi.NULL)
    if result == -errno.ENOENT:
        return False
    check(result)
    librbd().rbd_close(handle[0])
    return True


def _remove(ioctx: CData, image: str) -> None:
    result = librbd().rbd_remove(ioctx, image.encode())
    if result in (-errno.EBUSY, -errno.ENOTEMPTY):  # since it was looked at
        raise InUse("is open, or has snapshots")
    if result != -errno.ENOENT:
        check(result)


def _own_features() -> int:
    return sum(FEATURES[name] for name in OWN_FEATURES)


@contextmanager
def _options(values: Mapping[int, int]) -> Iterator[CData]:
    options = ffi.new("rbd_image_options_t *")
    librbd().rbd_image_options_create(options)
    try:
        for name, value in values.items():
            check(librbd().rbd_image_options_set_uint64(options[0], name, value))
        yield options[0]
    finally:
        librbd().rbd_image_options_destroy(options[0])
