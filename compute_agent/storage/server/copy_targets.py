"""What a block server copies disks to: it takes no connection from anybody, and opens each target by itself."""

from __future__ import annotations

import logging
from collections.abc import Collection

from compute_agent.block.copies import DiskCopy
from compute_agent.block.graph import from_the_top, nodes
from compute_agent.instance.devices import FileSource
from compute_agent.storage.server.exports import FileExport
from compute_agent.storage.server.graph import remote_node
from compute_agent.storage.server.names import storage_name
from compute_agent.storage.server.peers import Peer, cut_off, peer_in, peer_of
from compute_agent.storage.server.server import BlockServer

LOG = logging.getLogger(__name__)

_TARGET = "-copy"
"""What the nodes of targets end with that are opened here."""


class CopyTargets:
    """Of one server."""

    def __init__(self, server: BlockServer) -> None:
        self._server = server
        self._peers: set[Peer] = set()
        """Where connections lead that this agent has had made."""

    def open(self, copy: DiskCopy) -> str:
        """The target's node: of a file, of an image that the server has open, or of an export that is elsewhere.

        A connection is not taken; the server makes one of its own to where it leads.
        """
        node = f"{copy.disk}{_TARGET}"
        if isinstance(copy.target, FileSource):
            self._server.opening.open_file(node, FileExport(name=copy.disk, source=copy.target))
            return node
        peer = peer_of(copy.target)
        if peer is None:
            return copy.target.export  # its own: an image's node is called as its export
        self._peers.add(peer)
        self._server.control.open_node(remote_node(node, peer, copy.target.export, self._server.settings.open_timeout))
        return node

    def cut_off(self) -> None:
        """End the connections to all that are elsewhere: what waits for them fails."""
        found = [node for name, node in nodes(self._server.control.ask).items() if name.endswith(_TARGET)]
        self._cut({peer_in(node["file"]) for node in found if node["drv"] == "nbd"})

    def hang_up(self) -> None:
        """The same, without asking the server, for those that this agent has had made."""
        self._cut(self._peers)

    def close(self) -> None:
        """Those that were opened here. May be repeated."""
        ask = self._server.control.ask
        for node in from_the_top(ask):
            if node.endswith((_TARGET, storage_name(_TARGET))):
                ask("blockdev-del", {"node-name": node})
        self._peers.clear()

    def _cut(self, peers: Collection[Peer]) -> None:
        if peers:
            LOG.warning("%s does not answer, and is cut off", ", ".join(f"{host}:{port}" for host, port in peers))
            cut_off(self._server.process, peers)
