"""How exports and block nodes are called after disks.

A disk's export is called as the disk; one that was made when the disk had grown, ``disk0.<size in bytes>``. The nodes
of an export are called as it, or ``<export>-…``::

    disk0                                          what is exported: the limits, or the content itself
    disk0-1d0f2a…           disk0-1d0f2a…-file     layers
    disk0-00                disk0-00-file          where there are limits, the content: what it means, and its bytes
    disk0-01                disk0-01-file          what it stands on
"""

from __future__ import annotations

from collections.abc import Iterable

from compute_agent.block.names import layer_name
from compute_agent.instance.devices import FileSource

_ARRIVAL = "-arrival"


def grown(disk: str, size: int) -> str:
    """The export of a disk that has grown to `size` bytes."""
    return f"{disk}.{size}"


def arrival(disk: str) -> str:
    """The export that another host writes a disk through, while the guest that is served comes from there."""
    return f"{disk}{_ARRIVAL}"


def is_arrival(export: str) -> bool:
    """It is none that anybody on this host is served over."""
    return export.endswith(_ARRIVAL)


def disk_of(export: str) -> str:
    """The disk that this is an export of."""
    return export.partition(".")[0]


def export_of(node: str) -> str:
    """The export that the node belongs to."""
    return node.partition("-")[0]


def content_name(export: str, depth: int) -> str:
    """The node of what `depth` others stand on, one on the other; layers do not count."""
    return f"{export}-{depth:02}"


def file_name(export: str, source: FileSource, depth: int) -> str:
    """The node of what a file means: of a layer, or of what lies so deep below all layers."""
    return layer_name(export, source.layer) if source.layer is not None else content_name(export, depth)


def storage_name(node: str) -> str:
    """The node with the bytes that `node` gives a meaning."""
    return f"{node}-file"


def newest(disk: str, exports: Iterable[str]) -> str | None:
    """The export that knows the disk's present size; None where there is none of it."""
    return max((export for export in exports if disk_of(export) == disk), key=_size, default=None)


def _size(export: str) -> int:
    return int(export.partition(".")[2] or 0)
