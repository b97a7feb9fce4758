"""Disks that exist on one host only are copied to the other while the guest writes to both.

A job for each, called after the disk, copies its newest layer: what that stands on is the same image on both hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compute_agent.block.graph import nodes
from compute_agent.block.jobs import Jobs
from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.process.descriptors import handed_over
from compute_agent.virt.qemu.migration.encryption import CREDENTIALS

_TARGET = "-mirror"
"""What targets' nodes end with."""


class Mirrors:
    """Of one guest's disks, to a server of block devices."""

    def __init__(self, execute: Execute, top: Callable[[str], str], seconds: float) -> None:
        """`top` finds a disk's top node; jobs have `seconds` to end in."""
        self._execute = execute
        self._top = top
        self._seconds = seconds
        self._jobs = Jobs(execute, "mirror-")

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, *, encrypted: bool) -> None:
        """Encrypted with what QEMU knows as `CREDENTIALS`, if at all.

        :raises MonitorError: a target cannot be reached, or is not as large as its disk.
        """
        for disk, target in disks.items():
            self._add_target(f"{disk}{_TARGET}", target, {"tls-creds": CREDENTIALS} if encrypted else {})
        for disk in disks:
            self._execute("blockdev-mirror", self._job(disk, bandwidth))

    def _job(self, disk: str, bandwidth: int) -> dict[str, object]:
        return {
            "job-id": self._jobs.named(disk),
            "device": self._top(disk),
            "target": f"{disk}{_TARGET}",
            "sync": "top",
            "copy-mode": "write-blocking",
            "speed": bandwidth,
            "auto-dismiss": False,
        }

    def _add_target(self, node: str, target: NbdSource, encryption: Mapping[str, str]) -> None:
        server = {"type": "fd", "str": node}
        export = {"export": target.export, "discard": "unmap", **encryption}
        with handed_over(self._execute, {node: target.fd}):
            self._execute("blockdev-add", {"driver": "nbd", "node-name": node, "server": server, **export})

    def jobs(self) -> list[dict[str, Any]]:
        """Those that there are.

        :raises MonitorError: a disk could not be copied.
        """
        jobs = self._jobs.find()
        for job in jobs:
            if "error" in job:
                raise MonitorError(f"{job['id'].rpartition('-')[2]} could not be copied: {job['error']}")
        return jobs

    def finish(self) -> None:
        """Let go of the targets, which are complete: nobody writes to the disks now.

        :raises MonitorError: one could not be completed.
        """
        for job in self.jobs():
            if job["status"] != "concluded":
                self._execute("block-job-cancel", {"device": job["id"]})
        self._jobs.await_conclusion("", self._seconds)
        self.jobs()
        self._remove()

    def abandon(self) -> None:
        """Let go of the targets as they are.

        Cut off first: a job that is cancelled waits for its target, and all of QEMU with it.
        """
        self._cut_off()
        self._jobs.cancel()
        self._jobs.await_conclusion("", self._seconds)
        self._remove()

    def _cut_off(self) -> None:
        """End the connections: what waits for a host that does not answer fails, and only the jobs notice."""
        for one in self._execute("query-yank"):
            if one["type"] == "block-node" and one["node-name"].endswith(_TARGET):
                self._execute("yank", {"instances": [one]})

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        self._jobs.heard(event)

    def _remove(self) -> None:
        self._jobs.dismiss()
        for node in nodes(self._execute):
            if node.endswith(_TARGET):
                self._execute("blockdev-del", {"node-name": node})
