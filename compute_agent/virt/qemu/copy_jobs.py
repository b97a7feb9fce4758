"""Copying the disks of a running guest as they are at one moment, by QEMU's block jobs; and what has changed since.

A job's name comes from the operation that wants it, and a job that is done stays until it is dismissed: so an agent
finds the jobs of the one before it. Their targets are called after the disks.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from compute_agent.errors import DeadlineExceeded, GuestGone, MonitorError
from compute_agent.host.processes import Process
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.virt.copies import DiskCopy
from compute_agent.virt.process.saving import Execute
from compute_agent.virt.qemu.block_graph import content_of
from compute_agent.virt.qemu.moments import Moments
from compute_agent.virt.settings import VirtSettings

LOG = logging.getLogger(__name__)

_JOB, _TARGET = "copy-", "-copy"
"""What jobs begin with, and targets' nodes end with."""
_STORAGE = "-storage"
_PROMPT = 3.0
"""Seconds to be cancelled in, where targets answer."""


class CopyJobs:
    """The `compute_agent.virt.copies.DiskCopies` of one guest, over its monitor."""

    def __init__(self, execute: Execute, top: Callable[[str], str], moments: Moments, settings: VirtSettings) -> None:
        """`top` finds a disk's top node."""
        self._execute = execute
        self._top = top
        self._moments = moments
        self._seconds = settings.command_timeout
        self._longest_halt = settings.copy_halt_timeout
        self._seen = (-1, 0.0)
        self._connections: list[NbdSource] = []
        """To targets; this agent's own ends of them, if it has begun the copies."""
        self._changed = threading.Event()

    def begin(self, name: str, copies: Sequence[DiskCopy]) -> bool | None:
        """See the contract."""
        if self._jobs(name):
            return None
        self._seen = (-1, 0.0)
        self.end()  # what an agent left that was killed before its jobs began
        try:
            actions = [action for copy in copies for action in self._prepare(name, copy)]
            self._connections = [copy.target.twin() for copy in copies if isinstance(copy.target, NbdSource)]
            return self._moments.have(actions)
        except MonitorError:
            self._remove_targets()
            raise

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        """See the contract."""
        return self._moments.at(act)

    def progress(self, name: str, seconds: float) -> int:
        """See the contract.

        A guest that begins to use a disk anew (a reboot does) waits for what is under way to a target, and all of its
        process with it: its monitor could not have it cut off.
        """
        try:
            return self._look(name, seconds)
        except DeadlineExceeded:
            for connection in self._connections:
                connection.cut()
            raise

    def _look(self, name: str, seconds: float) -> int:
        self._changed.clear()
        jobs = self._jobs(name)
        if any(job["status"] != "concluded" for job in jobs) and self._changed.wait(seconds):
            jobs = self._jobs(name)
        if not jobs:
            raise MonitorError("the guest's process does not copy its disks any more")
        for job in jobs:
            if "error" in job:
                raise MonitorError(f"{job['id'].rpartition('-')[2]} could not be copied: {job['error']}")
        if all(job["status"] == "concluded" for job in jobs):
            return 100
        done, all_of_it = (sum(job[f"{what}-progress"] for job in jobs) for what in ("current", "total"))
        self._require_movement(done)
        return int(min(99, done * 100 // max(1, all_of_it)))

    def end(self) -> None:
        """See the contract."""
        for job in self._jobs():
            if job["status"] != "concluded":
                with suppress(MonitorError):  # it has just been done
                    self._execute("job-cancel", {"id": job["id"]})
        try:
            self._await_conclusion(min(_PROMPT, self._seconds))
        except DeadlineExceeded:
            self._cut_off()
            self._await_conclusion(self._seconds)
        for job in self._jobs():
            self._execute("job-dismiss", {"id": job["id"]})
        self._remove_targets()

    def marks(self, disk: str) -> set[str]:
        """See the contract."""
        bitmaps = self._node(self._content(disk)).get("dirty-bitmaps", [])
        return {str(one["name"]) for one in bitmaps if one["recording"] and not one.get("inconsistent")}

    def forget_marks(self, disk: str, keep: Collection[str]) -> None:
        """See the contract."""
        node = self._content(disk)
        for bitmap in self._node(node).get("dirty-bitmaps", []):
            if bitmap["name"] not in keep:
                self._execute("block-dirty-bitmap-remove", {"node": node, "name": bitmap["name"]})

    def store_marks(self, process: Process) -> None:
        """End the process in good order, if some are to outlive it: they are in memory until QEMU closes the disks."""
        with suppress(MonitorError, GuestGone, DeadlineExceeded):
            bitmaps = [one for node in self._nodes().values() for one in node.get("dirty-bitmaps", [])]
            if any(one["persistent"] for one in bitmaps):
                self._execute("quit")
                process.wait(self._seconds)

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"].startswith(_JOB):
            self._changed.set()

    def _prepare(self, name: str, copy: DiskCopy) -> list[dict[str, object]]:
        """Open the target; what is to happen to the disk at the moment."""
        node, target = self._content(copy.disk), f"{copy.disk}{_TARGET}"
        job: dict[str, object] = {"job-id": f"{_JOB}{name}-{copy.disk}", "device": node, "target": target}
        is_compressed = isinstance(copy.target, FileSource) and copy.target.compressed
        job |= {"sync": "full", "auto-dismiss": False, "compress": is_compressed}
        if copy.since is not None:
            # The bitmap stays as it is until the copy is known to be good.
            job |= {"sync": "bitmap", "bitmap": copy.since, "bitmap-mode": "never"}
        self._add_target(copy, target)
        actions: list[dict[str, object]] = [{"type": "blockdev-backup", "data": job}]
        if copy.mark is not None and copy.mark not in self.marks(copy.disk):
            bitmap = {"node": node, "name": copy.mark, "persistent": self._keeps_marks(node)}
            actions.insert(0, {"type": "block-dirty-bitmap-add", "data": bitmap})
        return actions

    def _keeps_marks(self, node: str) -> bool:
        """A qcow2 has room for them. With any other disk they end with this process, or this connection to it."""
        return str(self._node(node)["drv"]) == "qcow2"

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

    def _require_movement(self, done: int) -> None:
        """What the guest writes to where nothing is copied yet waits for the target, which may never answer."""
        now = time.monotonic()
        if done != self._seen[0]:
            self._seen = done, now
        elif now - self._seen[1] > self._longest_halt:
            raise MonitorError(f"nothing has been copied for {self._longest_halt:g} s")

    def _cut_off(self) -> None:
        """End the connections to targets that are on servers: what waits for them fails."""
        for one in self._execute("query-yank"):
            if one["type"] == "block-node" and one["node-name"].endswith(_TARGET):
                LOG.warning("%s does not answer, and is cut off", one["node-name"])
                self._execute("yank", {"instances": [one]})

    def _await_conclusion(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        while any(job["status"] != "concluded" for job in self._jobs()):
            left = due - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"the copying of disks has not ended within {seconds:g} s")
            self._changed.wait(min(left, 0.1))
            self._changed.clear()

    def _remove_targets(self) -> None:
        while self._connections:
            self._connections.pop().close()
        for node in self._nodes():
            if node.endswith(_TARGET):
                self._execute("blockdev-del", {"node-name": node})
        for one in self._execute("query-fdsets"):
            if any(fd.get("opaque", "").endswith(_TARGET + _STORAGE) for fd in one["fds"]):
                self._execute("remove-fd", {"fdset-id": one["fdset-id"]})

    def _jobs(self, name: str = "") -> list[dict[str, Any]]:
        return [job for job in self._execute("query-jobs") if job["id"].startswith(f"{_JOB}{name}")]

    def _content(self, disk: str) -> str:
        """The node that reads as the guest's disk and may remember what is written to it."""
        return content_of(self._execute, self._top(disk))

    def _nodes(self) -> dict[str, dict[str, Any]]:
        # Not query-block: it waits for storage that does not answer.
        return {node["node-name"]: node for node in self._execute("query-named-block-nodes", {"flat": True})}

    def _node(self, name: str) -> dict[str, Any]:
        return self._nodes()[name]
