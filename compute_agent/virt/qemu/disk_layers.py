"""Layers of the disks of a guest whose QEMU has them open, by descriptors that it is handed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compute_agent.block.graph import nodes
from compute_agent.block.layer_jobs import LayerJobs, layers_of
from compute_agent.block.names import layer_name
from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.virt.qemu.block_nodes import overlay_node, storage_name
from compute_agent.virt.qemu.moments import Moments


class QemuLayers(LayerJobs):
    """The `compute_agent.block.layers.DiskLayers` of one guest, over its monitor."""

    def __init__(self, execute: Execute, top: Callable[[str], str], moments: Moments, seconds: float) -> None:
        """`top` finds a disk's top node; `seconds` is how long a job may take to end."""
        super().__init__(execute, seconds)
        self._find_top = top
        self._moments = moments

    def _top(self, disk: str) -> str:
        return self._find_top(disk)

    def _node(self, top: str, source: FileSource) -> str:
        return layer_name(top, source.layer) if source.layer is not None else f"{top}-format"

    def _open(self, disk: Disk, source: FileSource, node: str) -> None:
        fd_set = self._add_fd(source.path, os.O_RDWR, {"opaque": storage_name(node)})
        opened = {storage_name(node): f"/dev/fdset/{fd_set}"}
        self._execute("blockdev-add", overlay_node(disk, source, node, opened))

    def _have(self, actions: Sequence[dict[str, object]]) -> None:
        self._moments.have(actions)

    @contextmanager
    def _reopening(self, disk: Disk) -> Iterator[None]:
        """QEMU opens the disk's files anew: what was written will be read only, or the other way round.

        Only for as long as it takes: locks belong to descriptors, and would be held by those that are not in use.
        """
        top, known = self._top(disk.name), nodes(self._execute)
        storage = {one.path: storage_name(self._node(top, one)) for one in layers_of(disk)}
        sets = {path: _fd_set(known[node]) for path, node in storage.items() if node in known}
        self._empty(sets.values())
        try:
            for path, fd_set in sets.items():
                for mode in (os.O_RDONLY, os.O_RDWR):
                    self._add_fd(path, mode, {"fdset-id": fd_set})
            yield
        finally:
            self._empty(sets.values())

    def _add_fd(self, path: Path, flags: int, where: Mapping[str, object]) -> int:
        try:
            fd = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise MonitorError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            return int(self._execute("add-fd", where, fd=fd)["fdset-id"])
        finally:
            os.close(fd)

    def _close(self, node: str) -> None:
        if node in nodes(self._execute):
            self._execute("blockdev-del", {"node-name": node})
        sets = self._execute("query-fdsets")
        self._empty(one["fdset-id"] for one in sets if any(fd.get("opaque") == storage_name(node) for fd in one["fds"]))

    def _empty(self, fd_sets: Iterable[int]) -> None:
        """QEMU keeps what it has opened from them."""
        for number in {one["fdset-id"] for one in self._execute("query-fdsets") if one["fds"]}.intersection(fd_sets):
            self._execute("remove-fd", {"fdset-id": number})


def _fd_set(storage: Mapping[str, Any]) -> int:
    """The number of the one that a file was opened from."""
    return int(str(storage["file"]).rpartition("/")[2])
