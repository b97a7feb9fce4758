"""Layers of disks that a block server has open: it opens each file anew, and all of a disk's own to be written to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from compute_agent.block.graph import from_the_top
from compute_agent.block.layer_jobs import LayerJobs
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.storage.server.exports import ExportOf, FileExport
from compute_agent.storage.server.names import file_name, storage_name
from compute_agent.storage.server.server import BlockServer


class ServedLayers(LayerJobs):
    """The `compute_agent.block.layers.DiskLayers` of one server, over its monitor."""

    def __init__(self, server: BlockServer, export_of: ExportOf) -> None:
        super().__init__(server.control.ask, server.settings.command_timeout)
        self._server = server
        self._export_of = export_of

    def _top(self, disk: str) -> str:
        return disk

    def _node(self, top: str, source: FileSource) -> str:
        return file_name(top, source, 0)

    def _open(self, disk: Disk, source: FileSource, node: str) -> None:
        known = self._export_of(disk.name)
        export = FileExport(name=disk.name, source=source, aio=disk.aio, cache=known.cache, discard=known.discard)
        self._server.opening.open_file(node, replace(export, transport=known.transport))

    def _close(self, node: str) -> None:
        for name in from_the_top(self._execute):
            if name in (node, storage_name(node)):
                self._execute("blockdev-del", {"node-name": name})

    def _reopening(self, disk: Disk) -> AbstractContextManager[None]:
        """What is only read is open to be written to."""
        return nullcontext()

    def _have(self, actions: Sequence[dict[str, object]]) -> None:
        self._execute("transaction", {"actions": actions})
