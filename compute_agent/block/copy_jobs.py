"""Copying disks as they are at one moment, by block jobs; and remembering what is written to them from then on.

Source: QEMU's qapi/block-core.json (blockdev-backup, block-dirty-bitmap-add) and docs/interop/bitmaps.rst.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from compute_agent.block.copies import DiskCopy
from compute_agent.block.graph import nodes
from compute_agent.block.jobs import Jobs
from compute_agent.errors import DeadlineExceeded, HostError, MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import FileSource

Action = dict[str, object]
"""Of a ``transaction``."""

_PROMPT = 3.0
"""Seconds to be cancelled in, where targets answer."""


class CopyJobs(ABC):
    """Most of a `compute_agent.block.copies.DiskCopies`; how targets are opened depends on the process."""

    _on_error = "report"
    """What a job does that cannot read or write any more: it fails; or it stops, and ends when it is cancelled."""

    def __init__(self, execute: Execute, seconds: float, longest_halt: float) -> None:
        """`seconds` for a job to end; without anything copied for `longest_halt`, copies have failed."""
        self._execute = execute
        self._seconds = seconds
        self._longest_halt = longest_halt
        self._jobs = Jobs(execute, "copy-")
        self._seen = (-1, 0.0)

    def begin(self, name: str, copies: Sequence[DiskCopy]) -> bool | None:
        """See the contract."""
        if self._jobs.find(name):
            return None
        self._seen = (-1, 0.0)
        self.end()  # what an agent left that was killed before its jobs began
        try:
            return self._start(name, copies)
        except (MonitorError, HostError):
            self._let_go()
            raise

    def progress(self, name: str, seconds: float) -> int:
        """See the contract.

        Who begins to use a disk anew (a reboot does) waits for what is under way to a target, and all of the process
        with it: its monitor could not have it cut off.
        """
        try:
            return self._look(name, seconds)
        except DeadlineExceeded:
            self._hang_up()
            raise

    def end(self) -> None:
        """See the contract."""
        self._jobs.cancel()
        try:
            self._jobs.await_conclusion("", min(_PROMPT, self._seconds))
        except DeadlineExceeded:
            self._cut_off()
            self._jobs.await_conclusion("", self._seconds)
        self._jobs.dismiss()
        self._let_go()

    def marks(self, disk: str) -> set[str]:
        """See the contract."""
        bitmaps = self._bitmaps(self._content(disk))
        return {str(one["name"]) for one in bitmaps if one["recording"] and not one.get("inconsistent")}

    def forget_marks(self, disk: str, keep: Collection[str]) -> None:
        """See the contract."""
        node = self._content(disk)
        for bitmap in self._bitmaps(node):
            if bitmap["name"] not in keep:
                self._execute("block-dirty-bitmap-remove", {"node": node, "name": bitmap["name"]})

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        self._jobs.heard(event)

    @abstractmethod
    def _start(self, name: str, copies: Sequence[DiskCopy]) -> bool:
        """Open the targets and begin; nothing is there of other copies. As `begin`."""

    @abstractmethod
    def _content(self, disk: str) -> str:
        """The node that reads as the guest's disk and may remember what is written to it."""

    @abstractmethod
    def _cut_off(self) -> None:
        """End the connections to targets that are on servers: what waits for them fails."""

    @abstractmethod
    def _hang_up(self) -> None:
        """The same, though the monitor does not answer; those that this agent has had made."""

    @abstractmethod
    def _let_go(self) -> None:
        """No job is there: close the targets, and whatever else there is for copies. May be repeated."""

    def _job(self, name: str, copy: DiskCopy, node: str, target: str) -> Action:
        """Copy `node`, which reads as the disk, to `target`."""
        is_compressed = isinstance(copy.target, FileSource) and copy.target.compressed
        job: dict[str, object] = {"job-id": self._jobs.named(f"{name}-{copy.disk}"), "device": node, "target": target}
        job |= {"sync": "full", "auto-finalize": False, "auto-dismiss": False, "compress": is_compressed}
        job |= {"on-source-error": self._on_error, "on-target-error": self._on_error}
        if copy.since is not None:
            # The bitmap stays as it is until the copy is known to be good.
            job |= {"sync": "bitmap", "bitmap": copy.since, "bitmap-mode": "never"}
        return {"type": "blockdev-backup", "data": job}

    def _marking(self, copy: DiskCopy) -> Iterator[Action]:
        """From the moment on, what is written is remembered, where that is wanted and is not so yet."""
        if copy.mark is not None and copy.mark not in self.marks(copy.disk):
            node = self._content(copy.disk)
            # A qcow2 has room for it. With any other disk it ends with this process, or this connection to it.
            is_kept = str(nodes(self._execute)[node]["drv"]) == "qcow2"
            bitmap = {"node": node, "name": copy.mark, "persistent": is_kept}
            yield {"type": "block-dirty-bitmap-add", "data": bitmap}

    def _bitmaps(self, node: str) -> list[dict[str, Any]]:
        """But those of jobs, which have no names."""
        return [one for one in nodes(self._execute)[node].get("dirty-bitmaps", []) if "name" in one]

    def _look(self, name: str, seconds: float) -> int:
        self._jobs.await_change(name, seconds)
        self._jobs.finalize(name)
        jobs = self._jobs.find(name)
        if not jobs:
            raise MonitorError("the process that has the disks open does not copy them any more")
        for job, error in self._jobs.failures(name).items():
            disk = job.rpartition("-")[2]
            raise MonitorError(f"{disk} could not be copied: {self._reason(disk, error)}")
        if all(job["status"] == "concluded" for job in jobs):
            return 100
        done, all_of_it = (sum(job[f"{what}-progress"] for job in jobs) for what in ("current", "total"))
        self._require_movement(done)
        return int(min(99, done * 100 // max(1, all_of_it)))

    def _reason(self, disk: str, error: str) -> str:
        """Why a job has failed, for a person."""
        return error

    def _require_movement(self, done: int) -> None:
        """A target may never answer, and what the guest writes may wait for it."""
        now = time.monotonic()
        if done != self._seen[0]:
            self._seen = done, now
        elif now - self._seen[1] > self._longest_halt:
            raise MonitorError(f"nothing has been copied for {self._longest_halt:g} s")
