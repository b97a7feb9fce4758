"""A disk's block nodes, as QEMU's JSON describes them.

::

    device -> throttle -> [luks] -> [layers ...] -> format -> storage (a file, or a connection to a block server)
    disk0     disk0       ...-luks  ...-1d0f2a...   ...-format ...-storage

The top one is always there: limits can change while the guest runs. A disk that is given a fresh connection has all
of its nodes twice for a moment, so the top one has one of two names (`top_names`); those below are called after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from compute_agent.block.names import layer_name
from compute_agent.errors import HostError
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.instance.throttling import group_name, limits
from compute_agent.instance.wire import CacheMode
from compute_agent.virt.qemu.devices import Properties

_BYPASSES_PAGE_CACHE: tuple[CacheMode, ...] = ("none", "directsync")
_SKIPS_FLUSHES: tuple[CacheMode, ...] = ("unsafe",)
_TELLS_OF_WRITES_WHEN_THEY_ARE_DURABLE: tuple[CacheMode, ...] = ("writethrough", "directsync")


def top_names(disk: str) -> tuple[str, str]:
    """What the top node of a disk may be called: at first, and after every other fresh connection."""
    return disk, f"{disk}.b"


def disk_of(top: str) -> str:
    """The disk that a top node belongs to."""
    return top.partition(".")[0]


def storage_name(format_node: str) -> str:
    """The storage node of a format node."""
    return f"{format_node.removesuffix('-format')}-storage"


def connection_name(top: str) -> str:
    """The storage node of a disk that a block server passes on."""
    return storage_name(f"{top}-format")


def secret_name(disk: str) -> str:
    """The object that holds a disk's passphrase until its container is open."""
    return f"{disk}-secret"


def throttle_group(disk: Disk) -> Properties:
    """The object that a new disk's top node refers to."""
    group: Properties = {"qom-type": "throttle-group", "id": group_name(disk.name, disk.qos)}
    wanted = {name: value for name, value in limits(disk.qos).items() if value}
    return group | {"limits": wanted} if disk.qos else group


def check_aio(disk: Disk, *, confined: bool) -> None:
    """:raises HostError: the disk asks for what a confined guest may not have."""
    if confined and disk.aio == "io_uring":
        # Its requests open and connect without a system call that the filter sees: a way around all of it.
        reason = "is refused to confined guests; threads and native (with the cache mode none or directsync) are not"
        raise HostError(f"{disk.name}: aio io_uring {reason}")


def keeps_flushes(cache: CacheMode) -> bool:
    """The guest may see a cache that it has to flush."""
    return cache not in _TELLS_OF_WRITES_WHEN_THEY_ARE_DURABLE


def local_files(disk: Disk, top: str) -> Iterator[tuple[str, Path, int]]:
    """Storage node, path and mode (os.O_…) of each local file that a disk consists of."""
    for node, source, read_only in _file_layers(disk, top):
        yield storage_name(node), source.path, os.O_RDONLY if read_only else os.O_RDWR


def disk_nodes(disk: Disk, top: str, opened: Mapping[str, str]) -> Properties:
    """The top node with all that it stands on; formats are told, never probed.

    `opened` has, by storage node, what QEMU knows a file or a connection by.
    """
    node = _node(disk, "throttle", top, read_only=disk.read_only)
    if disk.detect_zeroes != "off":
        node["detect-zeroes"] = disk.detect_zeroes if disk.discard else "on"
    return node | {"throttle-group": group_name(disk.name, disk.qos), "file": _content(disk, top, opened)}


def _content(disk: Disk, top: str, opened: Mapping[str, str]) -> Properties:
    node = _format(disk, top, opened)
    if disk.passphrase is None:
        return node
    secret = {"key-secret": secret_name(disk.name)}
    if node["driver"] == "qcow2":
        return node | {"encrypt": {"format": "luks"} | secret}
    return _node(disk, "luks", f"{top}-luks", read_only=disk.read_only) | secret | {"file": node}


def _format(disk: Disk, top: str, opened: Mapping[str, str]) -> Properties:
    if isinstance(disk.source, NbdSource):
        return _raw_over_connection(disk, disk.source, top, opened)
    node: Properties | None = None
    for name, source, read_only in reversed(list(_file_layers(disk, top))):
        backing, node = node, _file_layer(disk, name, source, opened, read_only=read_only)
        if source.format == "qcow2":
            node["backing"] = backing
    assert node is not None
    return node


def overlay_node(disk: Disk, source: FileSource, name: str, opened: Mapping[str, str]) -> Properties:
    """The disk's newest layer by itself, to be put on the nodes that there are."""
    return _file_layer(disk, name, source, opened, read_only=False)


def _file_layer(disk: Disk, name: str, source: FileSource, opened: Mapping[str, str], *, read_only: bool) -> Properties:
    node = _node(disk, source.format, name, read_only=read_only)
    if source.format == "qcow2":
        # An explicit null: whatever the header names as backing file is not opened.
        node["backing"] = None
    return node | {"file": _file(disk, storage_name(name), opened, read_only=read_only)}


def _raw_over_connection(disk: Disk, source: NbdSource, top: str, opened: Mapping[str, str]) -> Properties:
    name = f"{top}-format"
    storage = _node(disk, "nbd", connection_name(top), read_only=disk.read_only)
    storage |= {"server": {"type": "fd", "str": opened[connection_name(top)]}, "export": source.export}
    return _node(disk, "raw", name, read_only=disk.read_only) | {"file": storage}


def _file_layers(disk: Disk, top: str) -> Iterator[tuple[str, FileSource, bool]]:
    """Format node, source and whether it is only read, from the overlay down to what it stands on."""
    source, depth = disk.source if isinstance(disk.source, FileSource) else None, 0
    while source is not None:
        read_only = disk.read_only or source is not disk.source
        if source.layer is not None:
            yield layer_name(top, source.layer), source, read_only
        else:
            yield (f"{top}-base{depth}" if depth else f"{top}-format"), source, read_only
            depth += 1
        source = source.backing


def _file(disk: Disk, name: str, opened: Mapping[str, str], *, read_only: bool) -> Properties:
    node = _node(disk, "file", name, read_only=read_only) | {"filename": opened[name], "locking": "on"}
    # As its format node has it, also when a snapshot or a commit changes that.
    del node["read-only"]
    return node if disk.aio == "threads" else node | {"aio": disk.aio}


def _node(disk: Disk, driver: str, name: str, *, read_only: bool) -> Properties:
    node: Properties = {"driver": driver, "node-name": name, "read-only": read_only}
    if not read_only:
        node["discard"] = "unmap" if disk.discard else "ignore"
    cache = {"direct": disk.cache in _BYPASSES_PAGE_CACHE, "no-flush": disk.cache in _SKIPS_FLUSHES}
    return node | {"cache": cache} if any(cache.values()) else node
