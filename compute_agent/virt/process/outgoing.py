"""A guest's way out of its process. Where it stands is found in there, so the next agent goes on from there.

Source: QEMU's qapi/migration.json, which `vmm` keeps to as far as it is used here.
"""

from __future__ import annotations

import threading
import time
from abc import ABC
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from compute_agent.block.mirrors import DiskMirrors
from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.migration import MigrationProgress, Pace
from compute_agent.virt.process.post_copy import MEMORY as _FD
from compute_agent.virt.process.post_copy import OutgoingRest, progress_of_rest
from compute_agent.virt.process.way_left import WayLeft

_AT_WORK = ("setup", "active", "device", "cancelling", "wait-unplug", "pre-switchover")
_ENDED_BADLY = ("failed", "cancelled")
_JUST_SENT = ("finish-migrate", "completed")
"""Run state and status; no event tells of the former's end, a moment later (``postmigrate``)."""
_BEGUN, _HALTS_FOR_DISKS = "events", "pause-before-switchover"
"""Capabilities. The first is on from before anything is handed to the process until nothing of that is left there."""
_OURS = (_BEGUN, _HALTS_FOR_DISKS, "auto-converge")
"""Likewise; what is saved to a file must not find them on."""
_THROTTLES, _DOES_NOT = 50, 100
"""Percent of what is carried that the guest may write meanwhile before it is slowed down."""
_UNLIMITED = 1 << 50
"""Bytes a second; QEMU's default would be 128 MiB."""


class ProcessOutgoing(OutgoingRest, ABC):
    """The `compute_agent.virt.migration.OutgoingMigration` of one guest."""

    _of_post_copy: tuple[str, ...] = ()
    """Capabilities."""
    _of_compression: tuple[str, ...] = ()
    """The same; without any, memory is carried as it is."""

    def __init__(self, execute: Execute, mirrors: DiskMirrors, seconds: float) -> None:
        """The process has `seconds` to end what it is told to."""
        super().__init__(execute)
        self._seconds = seconds
        self._memory_begun = False
        self._way_left = WayLeft()
        self._pace: Pace | None = None
        """As this agent has told the process."""
        self._changed = threading.Event()
        self.have_disks_copied_by(mirrors)

    def have_disks_copied_by(self, mirrors: DiskMirrors) -> None:
        """See the contract."""
        self._mirrors = mirrors
        mirrors.tell(self._changed.set)

    def begin(
        self, memory: int, disks: Mapping[str, NbdSource], pace: Pace, key: str | None, *, post_copy: bool = False
    ) -> None:
        """See the contract."""
        self._memory_begun, self._way_left, self._pace = False, WayLeft(), None
        self._set_capabilities(self._wanted(pace, for_disks=bool(disks), post_copy=post_copy))
        self.set_pace(pace)
        if key is not None:
            self._use_key(memory, key)
        self._execute("getfd", {"fdname": _FD}, fd=memory)
        self._mirrors.begin(disks, pace.bandwidth, key)
        if not disks:
            self._begin_memory()

    def advance(self, seconds: float) -> MigrationProgress:
        """See the contract."""
        self._changed.clear()
        progress = self._advance()
        if progress.stage != "complete" and self._changed.wait(seconds):
            progress = self._advance()
        return progress

    def set_pace(self, pace: Pace) -> None:
        """See the contract."""
        if pace != self._pace:
            self._execute("migrate-set-parameters", self._parameters(pace))
            self._pace = pace

    def cancel(self) -> None:
        """See the contract."""
        has_begun = self._has_begun()
        if has_begun:
            self._execute("migrate_cancel")
            self._await_end()
        self._mirrors.abandon()
        if has_begun:
            with suppress(MonitorError):  # memory has been sent, or there never was any to send
                self._execute("closefd", {"fdname": _FD})
            self._forget_key()
            self._set_capabilities(())

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] in ("MIGRATION", "STOP"):
            self._changed.set()

    def _advance(self) -> MigrationProgress:
        memory = self._execute("query-migrate")
        if memory.get("status") == "pre-switchover":
            memory = self._go_on()
        status = memory.get("status")
        if status in _AT_WORK:
            return self._way_left.look(memory, self._mirrors.jobs())
        if (rest := progress_of_rest(memory)) is not None:
            return rest
        run_state = self._execute("query-status")["status"]
        if (run_state == "postmigrate" and status not in _ENDED_BADLY) or (run_state, status) == _JUST_SENT:
            return MigrationProgress(stage="complete", percent=100)
        jobs = self._mirrors.jobs()
        if status != "completed" or run_state == "running":
            self._begin_what_is_next(memory, jobs)
        return self._way_left.look({}, jobs)

    def _go_on(self) -> Mapping[str, Any]:
        """With the rest, and at once: the guest has been halted. What ``query-migrate`` says then.

        QEMU leaves the state a moment after it was told to: this may have been seen, and told, before.
        """
        self._mirrors.finish()
        try:
            self._execute("migrate-continue", {"state": "pre-switchover"})
        except MonitorError:
            if self._execute("query-migrate").get("status") == "pre-switchover":
                raise
        memory: Mapping[str, Any] = self._execute("query-migrate")
        return memory

    def _begin_what_is_next(self, memory: Mapping[str, Any], jobs: list[dict[str, Any]]) -> None:
        """Memory follows when the disks are there.

        Without a copy of a disk under way, what QEMU says of its last migration is about this one.
        """
        if memory.get("status") in _ENDED_BADLY and (self._memory_begun or not jobs):
            raise MonitorError(f"the guest could not be copied: {memory.get('error-desc', memory['status'])}")
        if jobs and all(job["status"] == "ready" for job in jobs):
            self._begin_memory()
        elif not jobs:
            raise MonitorError("the guest's process copies nothing to another host")

    def _begin_memory(self) -> None:
        self._execute("migrate", {"uri": f"fd:{_FD}"})
        self._memory_begun = True

    def _wanted(self, pace: Pace, *, for_disks: bool, post_copy: bool) -> set[str]:
        """Capabilities. Without disks to let go of, nobody has anything to do while the guest stands still."""
        wanted = {*_OURS} if for_disks else {*_OURS} - {_HALTS_FOR_DISKS}
        wanted.update(self._of_post_copy if post_copy else ())
        wanted.update(self._of_compression if pace.compresses else ())
        return wanted

    def _has_begun(self) -> bool:
        """Something of memory is under way, or was, or an agent died when it prepared that."""
        capabilities = self._execute("query-migrate-capabilities")
        return any(one["capability"] == _BEGUN and one["state"] for one in capabilities)

    def _set_capabilities(self, wanted: Collection[str]) -> None:
        known = (*_OURS, *self._of_post_copy, *self._of_compression)
        capabilities = [{"capability": name, "state": name in wanted} for name in known]
        self._execute("migrate-set-capabilities", {"capabilities": capabilities})

    def _parameters(self, pace: Pace) -> dict[str, object]:
        return {
            "max-bandwidth": pace.bandwidth or _UNLIMITED,
            "downtime-limit": int(pace.downtime * 1000),
            "throttle-trigger-threshold": _THROTTLES if pace.throttles else _DOES_NOT,
        }

    def _await_end(self) -> None:
        due = time.monotonic() + self._seconds
        while self._execute("query-migrate").get("status") in _AT_WORK:
            if time.monotonic() > due:
                raise DeadlineExceeded(f"the copying of memory has not ended within {self._seconds:g} s")
            self._changed.wait(0.05)
            self._changed.clear()
