"""Disks as they were at one moment, for as long as that is wanted, while their guest writes to them.

What is overwritten meanwhile is kept in a file without a name. While a moment is kept::

    disk0 -> disk0-before -> disk0-00 ...      what the guest reads and writes
             |      '-> disk0-kept             what was there when it wrote
    disk0-then -> disk0-before                 reads as the disk did at the moment

Of an encrypted disk it is the container that is kept, below the node that has its key.

Source: QEMU's qapi/block-core.json (copy-before-write, snapshot-access).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compute_agent.block.graph import BEFORE, children, content_of, from_the_top, nodes
from compute_agent.errors import StorageError
from compute_agent.storage.server.exports import ExportOf
from compute_agent.storage.server.graph import Node, container_node, keeping_node, kept_file_node, limiting_node
from compute_agent.storage.server.server import BlockServer

_KEPT, _THEN = "-kept", "-then"


@dataclass(frozen=True, slots=True)
class Room:
    """Where what is overwritten is kept."""

    directory: Path
    reserved: int
    """Bytes that are left free there, for guests' own disks."""


class Moments:
    """Of one server. Where a moment can be kept no longer, it is lost, and the guest does not notice."""

    def __init__(self, server: BlockServer, export_of: ExportOf, room: Room) -> None:
        self.room = room
        self._server = server
        self._ask = server.control.ask
        self._export_of = export_of

    def prepare(self, disk: str) -> None:
        """What keeps a moment is there."""
        content = self.content(disk)
        self._make_room(disk + _KEPT, int(nodes(self._ask)[content]["image"]["virtual-size"]))
        self._ask("blockdev-add", keeping_node(disk + BEFORE, self._export_of(disk), content, disk + _KEPT))

    def have(self, disks: Sequence[str]) -> None:
        """This is the moment: all of them are drained, and stand on what keeps it."""
        self._put([(disk, disk + BEFORE) for disk in disks])
        for disk in disks:
            then = {"driver": "snapshot-access", "node-name": self.then(disk), "file": disk + BEFORE}
            self._ask("blockdev-add", then)

    def then(self, disk: str) -> str:
        """The node that reads as the disk did at the moment."""
        return disk + _THEN

    def content(self, disk: str) -> str:
        """The node that reads as the disk does now: below what keeps a moment."""
        below = children(self._ask)
        node = below[self._above(disk)]
        return below[node] if node == disk + BEFORE else node

    def let_go(self) -> None:
        """No moment is kept. May be repeated."""
        found = from_the_top(self._ask)
        self._close(found, _THEN)
        below = children(self._ask)
        disks = [node.removesuffix(BEFORE) for node in found if node.endswith(BEFORE)]
        self._put([(disk, below[disk + BEFORE]) for disk in disks if below[self._above(disk)] == disk + BEFORE])
        for ending in (BEFORE, _KEPT):
            self._close(found, ending)

    def _above(self, disk: str) -> str:
        """The node that stands on what is kept."""
        return disk if self._export_of(disk).passphrase is None else content_of(self._ask, disk)

    def _put(self, contents: Iterable[tuple[str, str]]) -> None:
        """Disks stand on these nodes from now on, all at the same moment."""
        if options := [self._standing_on(disk, node) for disk, node in contents]:
            self._ask("blockdev-reopen", {"options": options})

    def _standing_on(self, disk: str, node: str) -> Node:
        above, export = self._above(disk), self._export_of(disk)
        return limiting_node(disk, export, node) if above == disk else container_node(above, export, node)

    def _make_room(self, node: str, size: int) -> None:
        """A file that takes as much room as is written to it, and goes when the server closes it."""
        try:
            with tempfile.TemporaryFile(dir=self.room.directory) as file:
                file.truncate(size)
                os.fchown(file.fileno(), self._server.paths.owner, -1)
                self._server.control.open_node(kept_file_node(node, self._server.control.lend(file.fileno())))
        except OSError as error:
            raise StorageError(f"{self.room.directory}: {error.strerror}") from error

    def _close(self, found: Sequence[str], ending: str) -> None:
        for node in found:
            if node.endswith(ending):
                self._ask("blockdev-del", {"node-name": node})
