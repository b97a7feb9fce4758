"""Copies of the disks of a guest whose QEMU has them open. Their targets' nodes are called after the disks.

A job that ends by itself while a guest's driver begins to use the disk makes QEMU 7.2 abort: the job's last step is
taken in the midst of that (``blk_get_aio_context: Assertion `ctx == blk->ctx' failed``). Commands are not, from 7.2.9
on. So all jobs end by commands: those that have copied all wait for one, and those that cannot go on stop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from compute_agent.block.copies import DiskCopy
from compute_agent.block.copy_jobs import Action, CopyJobs
from compute_agent.block.graph import content_of, nodes
from compute_agent.errors import DeadlineExceeded, GuestGone, MonitorError
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.virt.qemu.moments import Moments
from compute_agent.virt.settings import VirtSettings

LOG = logging.getLogger(__name__)

_TARGET, _STORAGE = "-copy", "-storage"
"""What nodes of targets end with."""


class QemuCopies(CopyJobs):
    """The `compute_agent.block.copies.DiskCopies` of one guest, over its monitor."""

    _on_error = "stop"

    def __init__(self, execute: Execute, top: Callable[[str], str], moments: Moments, settings: VirtSettings) -> None:
        """`top` finds a disk's top node."""
        super().__init__(execute, settings.command_timeout, settings.copy_halt_timeout)
        self._top = top
        self._moments = moments
        self._connections: list[NbdSource] = []
        """To targets; this agent's own ends of them, if it has begun the copies."""

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        """See the contract."""
        return self._moments.at(act)

    def store_marks(self, process: Process) -> None:
        """End the process in good order, if some are to outlive it: they are in memory until QEMU closes the disks."""
        with suppress(MonitorError, GuestGone, DeadlineExceeded):
            bitmaps = [one for node in nodes(self._execute).values() for one in node.get("dirty-bitmaps", [])]
            if any(one["persistent"] for one in bitmaps):
                self._execute("quit")
                process.wait(self._seconds)

    def _start(self, name: str, copies: Sequence[DiskCopy]) -> bool:
        actions: list[Action] = []
        for copy in copies:
            target = f"{copy.disk}{_TARGET}"
            self._add_target(copy, target)
            actions += [*self._marking(copy), self._job(name, copy, self._content(copy.disk), target)]
        self._connections = [copy.target.twin() for copy in copies if isinstance(copy.target, NbdSource)]
        return self._moments.have(actions)

    def _content(self, disk: str) -> str:
        return content_of(self._execute, self._top(disk))

    def _add_target(self, copy: DiskCopy, target: str) -> None:
        node: dict[str, object] = {"node-name": target}
        storage = f"{target}{_STORAGE}"
        if isinstance(copy.target, FileSource):
            file = {"driver": "file", "node-name": storage, "filename": self._hand_over(copy.target, storage)}
            node |= {"driver": copy.target.format, "discard": "unmap", "file": file}
            # What the copy stands on need not be open: whole clusters are written.
            node |= {"backing": None} if copy.target.format == "qcow2" else {}
        else:
            self._execute("getfd", {"fdname": storage}, fd=copy.target.fd)
            server = {"type": "fd", "str": storage}
            node |= {"driver": "nbd", "server": server, "export": copy.target.export}
        self._execute("blockdev-add", node)

    def _hand_over(self, target: FileSource, name: str) -> str:
        try:
            fd = os.open(target.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise MonitorError(f"{target.path} cannot be opened: {error.strerror}") from error
        try:
            return f"/dev/fdset/{self._execute('add-fd', {'opaque': name}, fd=fd)['fdset-id']}"
        finally:
            os.close(fd)

    def _cut_off(self) -> None:
        for one in self._execute("query-yank"):
            if one["type"] == "block-node" and one["node-name"].endswith(_TARGET):
                LOG.warning("%s does not answer, and is cut off", one["node-name"])
                self._execute("yank", {"instances": [one]})

    def _hang_up(self) -> None:
        for connection in self._connections:
            connection.cut()

    def _let_go(self) -> None:
        while self._connections:
            self._connections.pop().close()
        for node in nodes(self._execute):
            if node.endswith(_TARGET):
                self._execute("blockdev-del", {"node-name": node})
        for one in self._execute("query-fdsets"):
            if any(fd.get("opaque", "").endswith(_TARGET + _STORAGE) for fd in one["fds"]):
                self._execute("remove-fd", {"fdset-id": one["fdset-id"]})
