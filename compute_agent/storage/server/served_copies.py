"""Copies of disks that a block server has open.

A server tells a guest of a failed write at once, and a guest may then do without its disk. So nothing that it writes
may wait for a target, or fail with it: a moment of the disk is kept by other means, and copied. Where that cannot be,
the copy fails, and the guest does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compute_agent.block.copies import DiskCopy
from compute_agent.block.copy_jobs import Action, CopyJobs
from compute_agent.storage.files import require_space
from compute_agent.storage.server.copy_targets import CopyTargets
from compute_agent.storage.server.exports import ExportOf
from compute_agent.storage.server.moments import Moments, Room
from compute_agent.storage.server.server import BlockServer

_LOST = "Permission denied"
"""What QEMU says of a moment that could not be kept."""


class ServedCopies(CopyJobs):
    """The `compute_agent.block.copies.DiskCopies` of one server, over its monitor."""

    def __init__(self, server: BlockServer, export_of: ExportOf, room: Room) -> None:
        settings = server.settings
        super().__init__(server.control.ask, settings.command_timeout, settings.copy_halt_timeout)
        self._moments = Moments(server, export_of, room)
        self._targets = CopyTargets(server)

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        """See the contract. Nobody in the guest is asked: its file systems are as a power failure would leave them."""
        act()
        return False

    def progress(self, name: str, seconds: float) -> int:
        """See the contract.

        :raises InsufficientResources: too little room is left for what the guest overwrites.
        """
        percent = super().progress(name, seconds)
        if percent < 100:
            require_space(self._moments.room.directory, 0, self._moments.room.reserved)
        return percent

    def _start(self, name: str, copies: Sequence[DiskCopy]) -> bool:
        for copy in copies:
            self._moments.prepare(copy.disk)
        targets = {copy.disk: self._targets.open(copy) for copy in copies}
        # Marks begin a little earlier: what is written in between is in this copy, and in the next one too.
        self._have([action for copy in copies for action in self._marking(copy)])
        self._moments.have([copy.disk for copy in copies])
        self._have([action for copy in copies for action in self._copying(name, copy, targets[copy.disk])])
        return False

    def _content(self, disk: str) -> str:
        return self._moments.content(disk)

    def _cut_off(self) -> None:
        self._targets.cut_off()

    def _hang_up(self) -> None:
        self._targets.hang_up()

    def _let_go(self) -> None:
        self._moments.let_go()
        self._targets.close()

    def _reason(self, disk: str, error: str) -> str:
        if error == _LOST:
            return f"what its guest has overwritten meanwhile could not be kept in {self._moments.room.directory}"
        return error

    def _copying(self, name: str, copy: DiskCopy, target: str) -> Iterator[Action]:
        then = self._moments.then(copy.disk)
        if copy.since is not None:
            # What has been written since the moment is in it too by now, and is copied as it was then.
            known = {"node": self._content(copy.disk), "name": copy.since}
            yield _action("block-dirty-bitmap-add", node=then, name=copy.since, disabled=True)
            yield _action("block-dirty-bitmap-merge", node=then, target=copy.since, bitmaps=[known])
        yield self._job(name, copy, then, target)

    def _have(self, actions: Sequence[Action]) -> None:
        if actions:
            self._execute("transaction", {"actions": actions})


def _action(kind: str, **data: object) -> Action:
    return {"type": kind, "data": data}
