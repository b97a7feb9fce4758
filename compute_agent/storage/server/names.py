"""How exports and block nodes are called after disks.

A disk's export is called as the disk; one that was made when the disk had grown, ``disk0.<size in bytes>``. The nodes
of an export are called as it, or ``<export>-…``.
"""

from __future__ import annotations

from collections.abc import Iterable


def grown(disk: str, size: int) -> str:
    """The export of a disk that has grown to `size` bytes."""
    return f"{disk}.{size}"


def disk_of(export: str) -> str:
    """The disk that this is an export of."""
    return export.partition(".")[0]


def export_of(node: str) -> str:
    """The export that the node belongs to."""
    return node.partition("-")[0]


def newest(disk: str, exports: Iterable[str]) -> str | None:
    """The export that knows the disk's present size; None where there is none of it."""
    return max((export for export in exports if disk_of(export) == disk), key=_size, default=None)


def _size(export: str) -> int:
    return int(export.partition(".")[2] or 0)
