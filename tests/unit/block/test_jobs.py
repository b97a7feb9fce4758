"""Block jobs, against a process that remembers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.block.jobs import Jobs


class Process:
    """With a job of another kind that waits, too."""

    def __init__(self, **jobs: str) -> None:
        """Their statuses."""
        self._jobs = {f"copy-{name}": {"status": status} for name, status in jobs.items()}
        self._jobs["mirror-one"] = {"status": "pending"}
        self._io = dict.fromkeys(self._jobs, "ok")

    def fails(self, name: str, error: str) -> None:
        self._jobs[f"copy-{name}"] |= {"status": "concluded", "error": error}

    def stops(self, name: str, io_status: str) -> None:
        self._jobs[f"copy-{name}"] |= {"status": "paused"}
        self._io[f"copy-{name}"] = io_status

    def statuses(self) -> list[str]:
        return [job["status"] for job in self._jobs.values()]

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        if command == "query-jobs":
            return [{"id": name} | job for name, job in self._jobs.items()]
        if command == "query-block-jobs":
            return [{"device": name, "io-status": self._io[name]} for name in self._jobs]
        assert command == "job-finalize" and arguments is not None
        self._jobs[arguments["id"]]["status"] = "concluded"
        return {}


def test_only_those_of_a_name_that_wait_for_it_take_their_last_step() -> None:
    process = Process(one_disk0="pending", one_disk1="running", two_disk0="pending")
    Jobs(process.execute, "copy-").finalize("one")
    assert process.statuses() == ["concluded", "running", "pending", "pending"]


def test_what_has_stopped_is_a_failure_with_its_reason() -> None:
    process = Process(one_disk0="running", one_disk1="running", one_disk2="running", two_disk0="running")
    jobs = Jobs(process.execute, "copy-")
    assert jobs.failures("one") == {}
    process.stops("one_disk0", "nospace")
    process.stops("one_disk1", "failed")
    process.fails("one_disk2", "Permission denied")
    process.stops("two_disk0", "failed")
    assert jobs.failures("one") == {
        "copy-one_disk0": "No space left on device",
        "copy-one_disk1": "Input/output error",
        "copy-one_disk2": "Permission denied",
    }
