"""Block nodes and exports, as a qemu-storage-daemon's monitor takes them.

The node that is exported is called as the export; those that it stands on have longer names that begin with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.host.confinement.room import SOCKET_DIRECTORY
from compute_agent.instance.throttling import group_name
from compute_agent.instance.wire import CacheMode
from compute_agent.storage.server.exports import Export, FileExport, RbdExport
from compute_agent.storage.server.names import arrival, storage_name

Node = dict[str, Any]

SECRET = "key"
"""The object that holds a secret for as long as it takes to open something with it."""
_KEPT_WITHIN = 30
"""Seconds that a guest's write may wait until what was there before is in a file of this host."""
_TELLS_OF_WRITES_WHEN_THEY_ARE_DURABLE: tuple[CacheMode, ...] = ("writethrough", "directsync")


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


def file_node(name: str, export: FileExport, *, path: str, read_only: bool) -> Node:
    """A file's bytes; `path` is one that the server can open."""
    common = _common(export, read_only=read_only)
    return {"driver": "file", "node-name": name, "filename": path, "aio": export.aio, **common}


def format_node(name: str, export: Export, format: str, *, backing: str | None, read_only: bool) -> Node:
    """What the bytes of node ``<name>-file`` mean; a qcow2 file stands on `backing`, whatever it says itself."""
    over = {"backing": backing} if format == "qcow2" else {}
    common = _common(export, read_only=read_only)
    return {"driver": format, "node-name": name, "file": storage_name(name), **over, **common}


def decrypting(node: Node, *, secret: str) -> Node:
    """The same node for what is encrypted: a qcow2 file, or raw bytes that are a LUKS container."""
    if node["driver"] == "qcow2":
        return node | {"encrypt": {"format": "luks", "key-secret": secret}}
    return node | {"driver": "luks", "key-secret": secret}


def container_node(name: str, export: Export, content: str) -> Node:
    """What gives a LUKS container a meaning, and is open already: it stands on `content`, where it stood on the bytes.

    The key is in it.
    """
    opened = format_node(name, export, "raw", backing=None, read_only=export.read_only)
    return decrypting(opened, secret=SECRET) | {"file": content}


def limiting_node(name: str, export: Export, content: str) -> Node:
    """Always there over vhost-user, so that limits can change while it is served; zeroes are looked for once, here."""
    node = {"driver": "throttle", "node-name": name, "file": content, "throttle-group": group_name(name, export.qos)}
    if export.detect_zeroes != "off":
        node["detect-zeroes"] = export.detect_zeroes if export.discard else "on"
    return node | _common(export, read_only=export.read_only)


def keeping_node(name: str, export: Export, content: str, kept: str) -> Node:
    """Reads and writes as `content`; what was there before a write is in `kept`, if it can be had there in time."""
    return {
        "driver": "copy-before-write",
        "node-name": name,
        "file": content,
        "target": kept,
        "on-cbw-error": "break-snapshot",
        "cbw-timeout": _KEPT_WITHIN,
        "read-only": export.read_only,
        "discard": "unmap",
    }


def kept_file_node(name: str, path: str) -> Node:
    """For it: a file that nobody else has; `path` is one that the server can open."""
    return {"driver": "file", "node-name": name, "filename": path, "locking": "off"}


def remote_node(name: str, peer: tuple[str, int], export: str, seconds: float) -> Node:
    """An export of an NBD server elsewhere, which has `seconds` to answer."""
    server = {"type": "inet", **tcp_address(*peer)}
    return {"driver": "nbd", "node-name": name, "server": server, "export": export, "open-timeout": int(seconds)}


def tcp_address(host: str, port: int) -> dict[str, object]:
    """Of an NBD server; `host` is an address."""
    return {"host": host, "port": str(port), "numeric": True}


def export_arguments(name: str, export: Export) -> Mapping[str, Any]:
    """For ``block-export-add``."""
    common = {"id": name, "node-name": name, "writable": not export.read_only}
    if export.transport == "nbd":
        return {"type": "nbd", "name": name, **common}
    return {
        "type": "vhost-user-blk",
        "addr": {"type": "unix", "path": f"{SOCKET_DIRECTORY}/{name}.sock"},
        "num-queues": export.queues,
        "writethrough": export.cache in _TELLS_OF_WRITES_WHEN_THEY_ARE_DURABLE,
        **common,
    }


def arrival_arguments(disk: str) -> Mapping[str, Any]:
    """The same for a disk that another host writes, while the guest that is served comes from there."""
    return {"type": "nbd", "id": arrival(disk), "node-name": disk, "name": disk, "writable": True}


def _common(export: Export, *, read_only: bool) -> Node:
    return {
        "read-only": read_only,
        "discard": "unmap" if export.discard else "ignore",
        "cache": {"direct": export.cache in ("none", "directsync"), "no-flush": export.cache == "unsafe"},
    }
