"""The block nodes of a running QEMU, with what belongs to them: descriptors, passphrases, limits.

What a disk needs is found by its name, so whatever an agent left behind that was killed half way can be removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from compute_agent.block.graph import child_of
from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import Disk, FileSource, NbdSource
from compute_agent.instance.throttling import group_name, is_shared, limits
from compute_agent.virt.qemu.block_nodes import (
    connection_name,
    disk_nodes,
    local_files,
    secret_name,
    throttle_group,
    top_names,
)

_THERE_ALREADY = "duplicate property"
"""QEMU's words for an object that has been made before."""
_UNLOCKED_WITHIN = 60.0
"""Seconds: who made a container has decided how much work its passphrase is; by default 2 s of a CPU of his own."""


class BlockLayer:
    """Adds, changes and removes the nodes of disks."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def add(self, disk: Disk, top: str) -> None:
        """Open a disk; its top node is called `top`.

        :raises MonitorError: it cannot be opened; nothing of it is left.
        """
        try:
            self._add_group(disk)
            opened = self._hand_over(disk, top)
            patience = {} if disk.passphrase is None else {"deadline": _UNLOCKED_WITHIN}
            with self._secret(disk):
                self._execute("blockdev-add", disk_nodes(disk, top, opened), **patience)
        except MonitorError:
            self.remove(disk.name, top)
            raise

    def remove(self, disk: str, *tops: str) -> None:
        """Close what is open of a disk below these top nodes (default: all of it)."""
        tops = tops or top_names(disk)
        for top in self.node_names().intersection(tops):
            self._execute("blockdev-del", {"node-name": top})
        self._take_back(*(f"{top}-" for top in tops))
        self._delete_objects(disk)

    def node_names(self) -> set[str]:
        """Of all nodes. Not query-block: it waits for storage that does not answer."""
        return {node["node-name"] for node in self._execute("query-named-block-nodes", {"flat": True})}

    def size(self, top: str) -> int:
        """Bytes that the guest sees of a disk."""
        nodes = self._execute("query-named-block-nodes", {"flat": True})
        return next(int(node["image"]["virtual-size"]) for node in nodes if node["node-name"] == top)

    def resize(self, top: str, size: int | None) -> None:
        """Give the disk `size` bytes (None: what it has) and tell the guest.

        :raises MonitorError: it has more already, which would be lost.
        """
        present = self.size(top)
        if size is not None and present > size:
            raise MonitorError(f"{top} has {present} bytes, and is not cut off at {size}")
        self._execute("block_resize", {"node-name": top, "size": present if size is None else size})

    def limit(self, disk: str, top: str, qos: DiskQos | None) -> None:
        """Put a disk under these limits, and all that shares them."""
        group = group_name(disk, qos)
        if group not in self._objects():
            self._execute("object-add", {"qom-type": "throttle-group", "id": group})
        self._execute("qom-set", {"path": f"/objects/{group}", "property": "limits", "value": limits(qos)})
        self._execute("blockdev-reopen", {"options": [self._options(top) | {"throttle-group": group}]})
        self._delete_objects(disk)

    def _options(self, top: str) -> dict[str, object]:
        """Of a top node, as it was opened: reopening puts back to its default whatever is not said."""
        nodes = self._execute("query-named-block-nodes", {"flat": True})
        (node,) = (node for node in nodes if node["node-name"] == top)
        given: dict[str, object] = {"driver": "throttle", "node-name": top, "file": self._child(top)}
        given |= {"read-only": node["ro"], "detect-zeroes": node["detect_zeroes"]}
        given["cache"] = {option: node["cache"][option] for option in ("direct", "no-flush")}
        return given if node["ro"] else given | {"discard": "unmap"}

    def _child(self, top: str) -> str:
        """What a top node stands on: a snapshot may have come between it and the disk's first nodes."""
        return child_of(self._execute, top)

    def _add_group(self, disk: Disk) -> None:
        group = throttle_group(disk)
        try:
            self._execute("object-add", group)
        except MonitorError as error:
            if _THERE_ALREADY not in str(error):
                raise
            path = f"/objects/{group['id']}"
            self._execute("qom-set", {"path": path, "property": "limits", "value": limits(disk.qos)})

    def _hand_over(self, disk: Disk, top: str) -> dict[str, str]:
        """Give QEMU the disk's descriptors; what it knows them by, by storage node."""
        if isinstance(disk.source, NbdSource):
            name = connection_name(top)
            self._execute("getfd", {"fdname": name}, fd=disk.source.fd)
            return {name: name}
        return {name: self._open(name, path, mode) for name, path, mode in local_files(disk, top)}

    def _open(self, name: str, path: os.PathLike[str], mode: int) -> str:
        try:
            fd = os.open(path, mode | os.O_CLOEXEC)
        except OSError as error:
            raise MonitorError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            return f"/dev/fdset/{self._execute('add-fd', {'opaque': name}, fd=fd)['fdset-id']}"
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _secret(self, disk: Disk) -> Iterator[None]:
        """The passphrase is there while the container is being opened: no message and no log has it.

        Of a qcow2 it stays, as that of a disk that was there at the start: such a file is opened once more when its
        guest goes on here, after it was about to go on at another host.
        """
        if disk.passphrase is None:
            yield
            return
        name = secret_name(disk.name)
        self._delete_secret(name)  # of an agent that was killed
        fd = passphrase_file(disk.passphrase)
        try:
            number = self._execute("add-fd", {"opaque": name}, fd=fd)["fd"]
            self._execute("object-add", {"qom-type": "secret", "id": name, "file": f"/proc/self/fd/{number}"})
            yield
        finally:
            os.close(fd)
            self._take_back(name)
            if not (isinstance(disk.source, FileSource) and disk.source.format == "qcow2"):
                self._delete_secret(name)

    def _delete_secret(self, name: str) -> None:
        with contextlib.suppress(MonitorError):  # there is none
            self._execute("object-del", {"id": name})

    def _take_back(self, *prefixes: str) -> None:
        """Close descriptors that were handed over under names that begin so."""
        for one in self._execute("query-fdsets"):
            if any(fd.get("opaque", "").startswith(prefixes) for fd in one["fds"]):
                self._execute("remove-fd", {"fdset-id": one["fdset-id"]})

    def _objects(self) -> set[str]:
        children: list[dict[str, Any]] = self._execute("qom-list", {"path": "/objects"})
        return {child["name"] for child in children}

    def _delete_objects(self, disk: str) -> None:
        """Its passphrase, and those throttle groups that it may have been in and nobody is now."""
        for name in self._objects():
            if name in (secret_name(disk), group_name(disk, None)) or is_shared(name):
                # Only QEMU knows who uses a group; it refuses while somebody does.
                with contextlib.suppress(MonitorError):
                    self._execute("object-del", {"id": name})


def passphrase_file(passphrase: bytes) -> int:
    """An open file, in memory only, that a passphrase can be read from; whoever opened it closes it."""
    fd = os.memfd_create("passphrase")
    os.write(fd, passphrase)
    return fd
