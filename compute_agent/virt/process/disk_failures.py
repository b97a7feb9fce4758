"""A guest that is paused because of a disk: one piece of news a pause, however many requests failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compute_agent.virt.contract import DiskFailure, OnDiskFailure


class DiskFailures:
    """Follows one guest's events."""

    def __init__(self, instance_uuid: str, announce: OnDiskFailure, disk_of: Callable[[str], str]) -> None:
        """`disk_of` tells the disk by the name of the node that failed."""
        self._instance_uuid = instance_uuid
        self._announce = announce
        self._disk_of = disk_of
        self._first: DiskFailure | None = None

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor."""
        if event["event"] == "BLOCK_IO_ERROR" and event["data"]["action"] == "stop":
            self._first = self._first or self._failure(event["data"])
        elif event["event"] == "STOP" and self._first is not None:
            # Only now: whoever hears of it finds the guest paused, and may resume it.
            self._announce(self._first)
            self._first = None
        elif event["event"] == "RESUME":
            # What failed after the guest had been stopped is tried again, and may fail again.
            self._first = None

    def _failure(self, data: Mapping[str, Any]) -> DiskFailure:
        return DiskFailure(
            instance_uuid=self._instance_uuid,
            disk=self._disk_of(data["node-name"]),
            reason="no_space" if data.get("nospace") else "io_error",
            detail=f"{data['operation']}: {data['reason']}",
        )
