"""Block jobs of one kind, over the monitor of the process that they are in.

A job's name comes from the operation that wants it, and one that is done stays until it is dismissed: so an agent finds
the jobs of the one before it.

Source: QEMU's qapi/job.json.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.host.qmp import Execute

_LOOK_AGAIN = 0.1
"""Seconds: an event may have been told to an agent that has been killed."""

_STOPPED_BY = {"nospace": os.strerror(errno.ENOSPC), "failed": os.strerror(errno.EIO)}
"""Why a job has stopped that is told to do so instead of failing, by its status of input and output."""


class Jobs:
    """Those whose names begin with `prefix`."""

    def __init__(self, execute: Execute, prefix: str) -> None:
        self._execute = execute
        self._prefix = prefix
        self._changed = threading.Event()

    def named(self, name: str) -> str:
        """What one is called in the process."""
        return f"{self._prefix}{name}"

    def find(self, name: str = "") -> list[dict[str, Any]]:
        """All whose names begin so."""
        return [job for job in self._execute("query-jobs") if job["id"].startswith(self.named(name))]

    def await_change(self, name: str, seconds: float) -> list[dict[str, Any]]:
        """Those of that name, as they are now if one has come to rest, else as they are when something has changed."""
        self._changed.clear()
        jobs = self.find(name)
        if any(job["status"] not in ("concluded", "pending") for job in jobs) and self._changed.wait(seconds):
            return self.find(name)
        return jobs

    def failures(self, name: str) -> dict[str, str]:
        """Why those of that name have failed, or have stopped instead, by what they are called in the process."""
        reasons = {job["device"]: _STOPPED_BY.get(job["io-status"]) for job in self._execute("query-block-jobs")}
        reasons |= {job["id"]: job["error"] for job in self.find(name) if "error" in job}
        return {job: reason for job, reason in reasons.items() if reason and job.startswith(self.named(name))}

    def finalize(self, name: str) -> None:
        """Those that have done all but their last step take it: they have come to their end when this returns."""
        for job in self.find(name):
            if job["status"] == "pending":
                self._execute("job-finalize", {"id": job["id"]})

    def cancel(self, name: str = "") -> None:
        """Those that have not come to their end are told to."""
        for job in self.find(name):
            if job["status"] != "concluded":
                with suppress(MonitorError):  # it has just been done
                    self._execute("job-cancel", {"id": job["id"]})

    def await_conclusion(self, name: str, seconds: float) -> None:
        """:raises DeadlineExceeded: one of them has not come to its end in time."""
        due = time.monotonic() + seconds
        while any(job["status"] != "concluded" for job in self.find(name)):
            left = due - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"{self.named(name)}: the job has not ended within {seconds:g} s")
            self._changed.wait(min(left, _LOOK_AGAIN))
            self._changed.clear()

    def dismiss(self, name: str = "") -> None:
        """They are forgotten, all of which have come to their end."""
        for job in self.find(name):
            self._execute("job-dismiss", {"id": job["id"]})

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"].startswith(self._prefix):
            self._changed.set()


def end_jobs_of(execute: Execute, disk: str, seconds: float) -> None:
    """Whatever goes on about a disk comes to its end: jobs' names end with it.

    :raises DeadlineExceeded: it does not within `seconds`.
    """
    for job in execute("query-jobs"):
        if job["id"].endswith(f"-{disk}"):
            jobs = Jobs(execute, str(job["id"]))
            jobs.cancel()
            jobs.await_conclusion("", seconds)
            jobs.dismiss()
