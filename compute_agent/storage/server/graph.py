"""Block nodes and exports, as a qemu-storage-daemon's monitor takes them.

The node that is exported is called as the export; those that it stands on have longer names that begin with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.host.confinement.room import SOCKET_DIRECTORY
from compute_agent.storage.server.exports import Export, RbdExport

Node = dict[str, Any]


def rbd_node(name: str, export: RbdExport, *, conf: str, secret: str) -> Node:
    """`conf`: a path that the server can open; `secret`: the object with the key."""
    return {
        "driver": "rbd",
        "node-name": name,
        "pool": export.pool,
        "image": export.image,
        "conf": conf,
        "user": export.user,
        "key-secret": secret,
        "auth-client-required": ["cephx"],
        **_common(export, read_only=export.read_only),
        # What a server keeps to itself is lost when it dies, and the guest lives on and believes that it wrote it.
        "cache": {"direct": True, "no-flush": False},
    }


def file_node(name: str, export: Export, *, path: str, read_only: bool) -> Node:
    """A file's bytes; `path` is one that the server can open."""
    return {"driver": "file", "node-name": name, "filename": path, **_common(export, read_only=read_only)}


def format_node(name: str, export: Export, format: str, *, backing: str | None, read_only: bool) -> Node:
    """What the bytes of node ``<name>-file`` mean; a qcow2 file stands on `backing`, whatever it says itself."""
    over = {"backing": backing} if format == "qcow2" else {}
    common = _common(export, read_only=read_only)
    return {"driver": format, "node-name": name, "file": f"{name}-file", **over, **common}


def export_arguments(name: str, export: Export) -> Mapping[str, Any]:
    """For ``block-export-add``."""
    common = {"id": name, "node-name": name, "writable": not export.read_only}
    if export.transport == "nbd":
        return {"type": "nbd", "name": name, **common}
    address = {"type": "unix", "path": f"{SOCKET_DIRECTORY}/{name}.sock"}
    return {"type": "vhost-user-blk", "addr": address, **common}


def _common(export: Export, *, read_only: bool) -> Node:
    return {
        "read-only": read_only,
        "discard": "unmap",
        "cache": {"direct": export.cache in ("none", "directsync"), "no-flush": export.cache == "unsafe"},
    }
