"""Layers of disks that are open: added by a snapshot, taken away by a commit job.

The job waits before its last step, in which the layer is let go of, until it is told. So the record can be changed at
the moment when the disk is the same with the layer and without it.

Source: QEMU's qapi/block-core.json (blockdev-snapshot, block-commit).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from compute_agent.block.graph import content_of
from compute_agent.block.jobs import Jobs
from compute_agent.block.names import layer_name
from compute_agent.errors import HostError, MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import Disk, FileSource


class LayerJobs(ABC):
    """Most of a `compute_agent.block.layers.DiskLayers`; how files are opened depends on the process."""

    def __init__(self, execute: Execute, seconds: float) -> None:
        """`seconds` is how long a job may take to end."""
        self._execute = execute
        self._seconds = seconds
        self._jobs = Jobs(execute, "commit-")

    def add(self, disk: Disk) -> None:
        """See the contract."""
        newest, top = next(layers_of(disk)), self._top(disk.name)
        name, present = layer_name(top, str(newest.layer)), content_of(self._execute, top)
        if present == name:
            with self._reopening(disk):  # lets go of what an agent had open for it that was killed
                return
        self._close(name)  # of an agent that was killed
        try:
            self._open(disk, newest, name)
            with self._reopening(disk):
                self._have([{"type": "blockdev-snapshot", "data": {"node": present, "overlay": name}}])
        except (MonitorError, HostError):
            self._close(name)
            raise

    def writes_to(self, disk: str, layer: str) -> bool:
        """See the contract."""
        top = self._top(disk)
        return content_of(self._execute, top) == layer_name(top, layer)

    def begin_commit(self, name: str, disk: Disk, layer: str) -> None:
        """See the contract."""
        if self._jobs.find(name):
            return
        top, chain = self._top(disk.name), list(layers_of(disk))
        position = next(number for number, one in enumerate(chain) if one.layer == layer)
        below = chain[position + 1]
        job = {
            "job-id": self._jobs.named(f"{name}-{disk.name}"),
            "device": top,
            "auto-finalize": False,
            "auto-dismiss": False,
        }
        job |= {"top-node": layer_name(top, layer), "base-node": self._node(top, below)}
        if position > 0:
            # The process knows files by descriptors; the header of the layer above names the file for other readers.
            job["backing-file"] = str(below.path)
        with self._reopening(disk):
            self._execute("block-commit", job)

    def progress(self, name: str, seconds: float) -> int:
        """See the contract."""
        (job,) = self._require(name)
        if job["status"] == "ready":
            self._execute("job-complete", {"id": job["id"]})
        (job,) = self._required(self._jobs.await_change(name, seconds))
        if job["status"] == "pending":
            return 100
        return int(min(99, job["current-progress"] * 100 // max(1, job["total-progress"])))

    def finish(self, name: str, disk: Disk, layer: str) -> None:
        """See the contract."""
        if self._jobs.find(name):
            with self._reopening(disk):
                self._jobs.finalize(name)
                self._jobs.await_conclusion(name, self._seconds)
            self._require(name)
            self._jobs.dismiss(name)
        self._close(layer_name(self._top(disk.name), layer))

    def abandon(self, name: str, disk: Disk) -> None:
        """See the contract."""
        if self._jobs.find(name):
            with self._reopening(disk):
                self._jobs.cancel(name)
                self._jobs.await_conclusion(name, self._seconds)
            self._jobs.dismiss(name)

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        self._jobs.heard(event)

    @abstractmethod
    def _top(self, disk: str) -> str:
        """The top node of a disk; its layers' are called after it."""

    @abstractmethod
    def _node(self, top: str, source: FileSource) -> str:
        """The format node of one of the disk's own files."""

    @abstractmethod
    def _open(self, disk: Disk, source: FileSource, node: str) -> None:
        """Open a new layer by itself, as `node`."""

    @abstractmethod
    def _close(self, node: str) -> None:
        """A layer's node and its file. Nothing happens where it is not open."""

    @abstractmethod
    def _reopening(self, disk: Disk) -> AbstractContextManager[None]:
        """What was written may become read only meanwhile, or the other way round."""

    @abstractmethod
    def _have(self, actions: Sequence[dict[str, object]]) -> None:
        """Both at one moment."""

    def _require(self, name: str) -> list[dict[str, Any]]:
        return self._required(self._jobs.find(name))

    def _required(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """:raises MonitorError: there is no such job, or it has failed."""
        if not jobs:
            raise MonitorError("the process that has the disk open does not commit a layer any more")
        if "error" in jobs[0]:
            raise MonitorError(f"the layer could not be committed: {jobs[0]['error']}")
        return jobs


def layers_of(disk: Disk) -> Iterator[FileSource]:
    """The newest first; what the disk's first file stands on is nobody's to change."""
    source = disk.source if isinstance(disk.source, FileSource) else None
    while source is not None:
        yield source
        source = source.backing if source.layer is not None else None
