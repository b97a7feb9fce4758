"""Copies of disks that a block server has open.

A server tells a guest of a failed write at once, and a guest may then do without its disk. So nothing that it writes
may wait for a target, or fail with it: what it overwrites is kept in a file without a name, and copied from there.
Where that cannot be, the copy fails, and the guest does not notice. While disks are copied::

    disk0 -> disk0-before -> disk0-00 ...      what the guest reads and writes
             |      '-> disk0-kept             what was there when it wrote
    disk0-then -> disk0-before                 reads as the disk did at the moment
    disk0-copy                                 the target

Source: QEMU's qapi/block-core.json (copy-before-write, snapshot-access).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from compute_agent.block.copies import DiskCopy
from compute_agent.block.copy_jobs import Action, CopyJobs
from compute_agent.block.graph import BEFORE, children, content_of, from_the_top, nodes
from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.storage.server.copy_targets import TARGET, CopyTargets
from compute_agent.storage.server.exports import Export
from compute_agent.storage.server.graph import keeping_node, kept_file_node, limiting_node
from compute_agent.storage.server.names import storage_name
from compute_agent.storage.server.server import BlockServer

_KEPT, _THEN = "-kept", "-then"
_BROKEN = "Permission denied"
"""What QEMU says of a moment that could not be kept."""


class ServedCopies(CopyJobs):
    """The `compute_agent.block.copies.DiskCopies` of one server, over its monitor."""

    def __init__(self, server: BlockServer, export_of: Callable[[str], Export], directory: Path) -> None:
        """What is overwritten meanwhile is kept in `directory`."""
        settings = server.settings
        super().__init__(server.control.ask, settings.command_timeout, settings.copy_halt_timeout)
        self._server = server
        self._export_of = export_of
        self._directory = directory
        self._targets = CopyTargets(server)

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        """See the contract. Nobody in the guest is asked: its file systems are as a power failure would leave them."""
        act()
        return False

    def _start(self, name: str, copies: Sequence[DiskCopy]) -> bool:
        """A moment of several disks is that at which all of them are drained, and stand on what keeps it."""
        for copy in copies:
            self._refuse_encrypted(copy.disk)
        targets = {copy.disk: self._prepare(copy) for copy in copies}
        # Marks begin a little earlier: what is written in between is in this copy, and in the next one too.
        self._have([action for copy in copies for action in self._marking(copy)])
        self._put(copy.disk + BEFORE for copy in copies)
        for copy in copies:
            then = {"driver": "snapshot-access", "node-name": copy.disk + _THEN, "file": copy.disk + BEFORE}
            self._execute("blockdev-add", then)
        self._have([action for copy in copies for action in self._copying(name, copy, targets[copy.disk])])
        return False

    def _content(self, disk: str) -> str:
        return content_of(self._execute, disk)

    def _cut_off(self) -> None:
        self._targets.cut_off()

    def _hang_up(self) -> None:
        self._targets.hang_up()

    def _let_go(self) -> None:
        found = from_the_top(self._execute)
        self._close(found, (_THEN,))
        below = children(self._execute)
        self._put(below[node] for node in found if node.endswith(BEFORE) and below.get(_disk_of(node)) == node)
        self._close(found, (BEFORE, _KEPT, TARGET, storage_name(TARGET)))
        self._targets.forget()

    def _reason(self, disk: str, error: str) -> str:
        if error == _BROKEN:
            return f"what its guest has overwritten meanwhile could not be kept in {self._directory}"
        return error

    def _refuse_encrypted(self, disk: str) -> None:
        if self._export_of(disk).passphrase is not None:
            reason = "is encrypted, and can be copied while its instance does not run: stop it first"
            raise InvalidMessage("disks", disk, reason)

    def _prepare(self, copy: DiskCopy) -> str:
        """What a copy needs is there; its target."""
        disk, content = copy.disk, self._content(copy.disk)
        self._make_room(disk + _KEPT, int(nodes(self._execute)[content]["image"]["virtual-size"]))
        filter_node = keeping_node(disk + BEFORE, self._export_of(disk), content, disk + _KEPT)
        self._execute("blockdev-add", filter_node)
        return self._targets.open(copy)

    def _make_room(self, node: str, size: int) -> None:
        """A file that takes as much room as is written to it, and goes when the server closes it."""
        try:
            with tempfile.TemporaryFile(dir=self._directory) as file:
                file.truncate(size)
                os.fchown(file.fileno(), self._server.paths.owner, -1)
                self._server.control.open_node(kept_file_node(node, self._server.control.lend(file.fileno())))
        except OSError as error:
            raise StorageError(f"{self._directory}: {error.strerror}") from error

    def _put(self, contents: Iterator[str]) -> None:
        """Disks stand on these nodes from now on, all at the same moment."""
        options = [limiting_node(_disk_of(node), self._export_of(_disk_of(node)), node) for node in contents]
        if options:
            self._execute("blockdev-reopen", {"options": options})

    def _copying(self, name: str, copy: DiskCopy, target: str) -> Iterator[Action]:
        then = copy.disk + _THEN
        if copy.since is not None:
            # What has been written since the moment is in it too by now, and is copied as it was then.
            known = {"node": self._content(copy.disk), "name": copy.since}
            yield _action("block-dirty-bitmap-add", node=then, name=copy.since, disabled=True)
            yield _action("block-dirty-bitmap-merge", node=then, target=copy.since, bitmaps=[known])
        yield self._job(name, copy, then, target)

    def _have(self, actions: Sequence[Action]) -> None:
        if actions:
            self._execute("transaction", {"actions": actions})

    def _close(self, found: Sequence[str], endings: tuple[str, ...]) -> None:
        for node in found:
            if node.endswith(endings):
                self._execute("blockdev-del", {"node-name": node})


def _disk_of(node: str) -> str:
    return node.partition("-")[0]


def _action(kind: str, **data: object) -> Action:
    return {"type": kind, "data": data}
