"""Disks that a block server has open for a guest: what can be done with them meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compute_agent.instance.block_device import DiskQos
from compute_agent.storage.server.exports import ExportOf
from compute_agent.storage.server.moments import Room
from compute_agent.storage.server.served_copies import ServedCopies
from compute_agent.storage.server.served_layers import ServedLayers
from compute_agent.storage.server.server import BlockServer


class ServedDisks:
    """Keeps `compute_agent.block.open_disks.OpenDisks`, over the server's monitor."""

    def __init__(self, server: BlockServer, export_of: ExportOf, room: Room) -> None:
        """`room`: for what guests overwrite while their disks are copied."""
        self._server = server
        self._export_of = export_of
        self.copies = ServedCopies(server, export_of, room)
        self.layers = ServedLayers(server, export_of)
        server.control.listen(self._on_event)

    def set_disk_qos(self, name: str, qos: DiskQos | None) -> None:
        """See the contract.

        :raises StorageError: the server refuses, and is as it was.
        """
        self._server.limit(replace(self._export_of(name), qos=qos))

    def _on_event(self, event: Mapping[str, Any]) -> None:
        self.copies.heard(event)
        self.layers.heard(event)
