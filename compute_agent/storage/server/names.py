"""How exports and block nodes are called after disks.

A disk's export is called as the disk; one that was made when the disk had grown, ``disk0.<size in bytes>``. The nodes
of an export are called as it, or ``<export>-…``::

    disk0                          what is exported: the limits, or the content itself
    disk0-00    disk0-00-file      where there are limits, the content: what it means, and its bytes
    disk0-01    disk0-01-file      what it stands on
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


def layer_name(export: str, depth: int) -> str:
    """The node of the content that `depth` others stand on, one on the other."""
    return f"{export}-{depth:02}"


def storage_name(node: str) -> str:
    """The node with the bytes that `node` gives a meaning."""
    return f"{node}-file"


def from_the_top(nodes: Iterable[str]) -> list[str]:
    """Those that stand on others before these."""
    return sorted(nodes, key=lambda node: (len(node), node))


def newest(disk: str, exports: Iterable[str]) -> str | None:
    """The export that knows the disk's present size; None where there is none of it."""
    return max((export for export in exports if disk_of(export) == disk), key=_size, default=None)


def _size(export: str) -> int:
    return int(export.partition(".")[2] or 0)
