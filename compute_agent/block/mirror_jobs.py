"""Disks that exist on one host only are copied to the other while the guest writes to both.

A job for each, called after the disk, copies its newest layer: what that stands on is the same image on both hosts.

Source: QEMU's qapi/block-core.json (blockdev-mirror, block-job-cancel).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from compute_agent.block.graph import nodes
from compute_agent.block.jobs import Jobs
from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import NbdSource

TARGET = "-mirror"
"""What targets' nodes end with."""


class MirrorJobs(ABC):
    """Most of a `compute_agent.block.mirrors.DiskMirrors`; how targets are opened depends on the process."""

    def __init__(self, execute: Execute, seconds: float) -> None:
        """Jobs have `seconds` to end in."""
        self._execute = execute
        self._seconds = seconds
        self._jobs = Jobs(execute, "mirror-")
        self._changed: Callable[[], None] = lambda: None

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, key: str | None) -> None:
        """See the contract."""
        if key is not None:
            self._use_key(key)
        for disk, target in disks.items():
            self._open_target(f"{disk}{TARGET}", target, key)
        for disk in disks:
            self._execute("blockdev-mirror", self._job(disk, bandwidth))

    def jobs(self) -> list[dict[str, Any]]:
        """See the contract."""
        jobs = self._jobs.find()
        for job in jobs:
            if "error" in job:
                raise MonitorError(f"{job['id'].rpartition('-')[2]} could not be copied: {job['error']}")
        return jobs

    def finish(self) -> None:
        """See the contract."""
        for job in (jobs := self.jobs()):
            if job["status"] != "concluded":
                self._execute("block-job-cancel", {"device": job["id"]})
        if jobs:
            self._jobs.await_conclusion("", self._seconds)
            self.jobs()
        self._remove()

    def abandon(self) -> None:
        """See the contract.

        Cut off first: a job that is cancelled waits for its target, and all of the process with it.
        """
        if self._targets():  # no job is without one
            self._cut_off()
            self._jobs.cancel()
            self._jobs.await_conclusion("", self._seconds)
        self._remove()

    def tell(self, changed: Callable[[], None]) -> None:
        """See the contract."""
        self._changed = changed

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        self._jobs.heard(event)
        if event["event"] == "JOB_STATUS_CHANGE":
            self._changed()

    @abstractmethod
    def _top(self, disk: str) -> str:
        """The top node of a disk."""

    @abstractmethod
    def _use_key(self, key: str) -> None:
        """Targets are opened with this key from now on."""

    @abstractmethod
    def _open_target(self, node: str, target: NbdSource, key: str | None) -> None:
        """Open what a disk is copied to, as `node`."""

    @abstractmethod
    def _cut_off(self) -> None:
        """End the connections: what waits for a host that does not answer fails, and only the jobs notice."""

    def _remove(self) -> None:
        self._jobs.dismiss()
        for node in self._targets():
            self._execute("blockdev-del", {"node-name": node})

    def _targets(self) -> dict[str, dict[str, Any]]:
        """Nodes, by name."""
        return {name: node for name, node in nodes(self._execute).items() if name.endswith(TARGET)}

    def _job(self, disk: str, bandwidth: int) -> dict[str, object]:
        return {
            "job-id": self._jobs.named(disk),
            "device": self._top(disk),
            "target": f"{disk}{TARGET}",
            "sync": "top",
            "copy-mode": "write-blocking",
            "speed": bandwidth,
            "auto-dismiss": False,
        }
