"""That an image is being cloned, noted beside it: a half made clone looks like an image that was never one.

Without the note nothing that exists is ever removed to make a clone.
"""

from __future__ import annotations

import errno

from compute_agent.storage.rbd.abi import ffi
from compute_agent.storage.rbd.binding import CData, check, librados


def is_claimed(ioctx: CData, image: str) -> bool:
    """Whether somebody began to clone it, and has not finished."""
    result = librados().rados_stat(ioctx, _object(image), ffi.new("uint64_t *"), ffi.new("int64_t *"))
    return result != -errno.ENOENT and check(result) == 0


def claim(ioctx: CData, image: str) -> None:
    """To be called only where there is no such image."""
    check(librados().rados_write_full(ioctx, _object(image), b"", 0))


def disclaim(ioctx: CData, image: str) -> None:
    """It is finished, or gone."""
    result = librados().rados_remove(ioctx, _object(image))
    if result != -errno.ENOENT:
        check(result)


def _object(image: str) -> bytes:
    return f"compute_agent.cloning.{image}".encode()
