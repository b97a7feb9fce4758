"""Layers of the disks of a running guest: added by a snapshot of QEMU's, taken away by a commit job.

A job's name comes from the operation that wants it. It waits before its last step, in which the guest lets go of the
layer, until it is told; and when it is done it stays until it is dismissed. So an agent finds the job of the one
before it, and the record can be changed at the moment when the disk is the same with the layer and without it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.virt.process.saving import Execute
from compute_agent.virt.qemu.block_graph import content_of
from compute_agent.virt.qemu.block_nodes import layer_name, overlay_node, storage_name
from compute_agent.virt.qemu.moments import Moments

_JOB = "commit-"


class LayerJobs:
    """The `compute_agent.virt.layers.DiskLayers` of one guest, over its monitor."""

    def __init__(self, execute: Execute, top: Callable[[str], str], moments: Moments, seconds: float) -> None:
        """`top` finds a disk's top node; `seconds` is how long a job may take to end."""
        self._execute = execute
        self._top = top
        self._moments = moments
        self._seconds = seconds
        self._changed = threading.Event()

    def add(self, disk: Disk) -> None:
        """See the contract."""
        newest = next(_layers(disk))
        top = self._top(disk.name)
        name, present = layer_name(top, str(newest.layer)), content_of(self._execute, top)
        if present == name:
            return
        self._close(name)  # of an agent that was killed
        fd_set = self._add_fd(newest.path, os.O_RDWR, {"opaque": storage_name(name)})
        opened = {storage_name(name): f"/dev/fdset/{fd_set}"}
        self._execute("blockdev-add", overlay_node(disk, newest, name, opened))
        try:
            with self._reopening(disk):
                self._moments.have([{"type": "blockdev-snapshot", "data": {"node": present, "overlay": name}}])
        except MonitorError:
            self._close(name)
            raise

    def writes_to(self, disk: str, layer: str) -> bool:
        """See the contract."""
        top = self._top(disk)
        return content_of(self._execute, top) == layer_name(top, layer)

    def begin_commit(self, name: str, disk: Disk, layer: str) -> None:
        """See the contract."""
        if self._job(name) is not None:
            return
        top, chain = self._top(disk.name), list(_layers(disk))
        position = next(number for number, one in enumerate(chain) if one.layer == layer)
        below = chain[position + 1]
        job = {"job-id": f"{_JOB}{name}", "device": top, "auto-finalize": False, "auto-dismiss": False}
        job |= {"top-node": layer_name(top, layer), "base-node": _node(top, below)}
        if position > 0:
            # QEMU knows files by descriptors; the header of the layer above names the file for those who do not.
            job["backing-file"] = str(below.path)
        with self._reopening(disk):
            self._execute("block-commit", job)

    def progress(self, name: str, seconds: float) -> int:
        """See the contract."""
        self._changed.clear()
        job = self._require(name)
        if job["status"] == "ready":
            self._execute("job-complete", {"id": job["id"]})
        if job["status"] != "pending" and self._changed.wait(seconds):
            job = self._require(name)
        if job["status"] == "pending":
            return 100
        return int(min(99, job["current-progress"] * 100 // max(1, job["total-progress"])))

    def finish(self, name: str, disk: Disk, layer: str) -> None:
        """See the contract."""
        if (job := self._job(name)) is not None:
            with self._reopening(disk):
                if job["status"] == "pending":
                    self._execute("job-finalize", {"id": job["id"]})
                self._await_conclusion(name)
            self._require(name)
            self._execute("job-dismiss", {"id": job["id"]})
        self._close(layer_name(self._top(disk.name), layer))

    def abandon(self, name: str, disk: Disk) -> None:
        """See the contract."""
        if (job := self._job(name)) is None:
            return
        with self._reopening(disk):
            with suppress(MonitorError):  # it has just ended
                self._execute("job-cancel", {"id": job["id"]})
            self._await_conclusion(name)
        self._execute("job-dismiss", {"id": job["id"]})

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"].startswith(_JOB):
            self._changed.set()

    def _job(self, name: str) -> dict[str, Any] | None:
        return next((job for job in self._execute("query-jobs") if job["id"] == f"{_JOB}{name}"), None)

    def _require(self, name: str) -> dict[str, Any]:
        """:raises MonitorError: there is no such job, or it has failed."""
        job = self._job(name)
        if job is None:
            raise MonitorError("the guest's process does not commit a layer any more")
        if "error" in job:
            raise MonitorError(f"the layer could not be committed: {job['error']}")
        return job

    def _await_conclusion(self, name: str) -> None:
        due = time.monotonic() + self._seconds
        while (job := self._job(name)) is not None and job["status"] != "concluded":
            left = due - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"the commit of a layer has not ended within {self._seconds:g} s")
            self._changed.wait(min(left, 0.1))
            self._changed.clear()

    @contextmanager
    def _reopening(self, disk: Disk) -> Iterator[None]:
        """Let QEMU open the disk's files anew: what was written will be read only, or the other way round.

        Only for as long as it takes: locks belong to descriptors, and would be held by those that are not in use.
        """
        top, nodes = self._top(disk.name), self._nodes()
        sets = {one.path: _fd_set(nodes[storage]) for one in _layers(disk) if (storage := _storage(top, one)) in nodes}
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
        if node in self._nodes():
            self._execute("blockdev-del", {"node-name": node})
        sets = self._execute("query-fdsets")
        self._empty(one["fdset-id"] for one in sets if any(fd.get("opaque") == storage_name(node) for fd in one["fds"]))

    def _empty(self, fd_sets: Iterable[int]) -> None:
        """QEMU keeps what it has opened from them."""
        for number in {one["fdset-id"] for one in self._execute("query-fdsets") if one["fds"]}.intersection(fd_sets):
            self._execute("remove-fd", {"fdset-id": number})

    def _nodes(self) -> dict[str, dict[str, Any]]:
        # Not query-block: it waits for storage that does not answer.
        return {node["node-name"]: node for node in self._execute("query-named-block-nodes", {"flat": True})}


def _layers(disk: Disk) -> Iterator[FileSource]:
    """The newest first; what the disk's first file stands on is nobody's to change."""
    source = disk.source if isinstance(disk.source, FileSource) else None
    while source is not None:
        yield source
        source = source.backing if source.layer is not None else None


def _node(top: str, source: FileSource) -> str:
    return layer_name(top, source.layer) if source.layer is not None else f"{top}-format"


def _storage(top: str, source: FileSource) -> str:
    return storage_name(_node(top, source))


def _fd_set(storage: Mapping[str, Any]) -> int:
    """The number of the one that a file was opened from."""
    return int(str(storage["file"]).rpartition("/")[2])
