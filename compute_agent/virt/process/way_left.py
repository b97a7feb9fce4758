"""How far a guest is on its way out of its process, and how long the rest of it will take.

Source: QEMU's qapi/migration.json (``query-migrate``) and qapi/job.json (``query-jobs``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compute_agent.virt.migration import MigrationProgress

_APART = 1.0
"""Seconds between two looks at disks, so that what is seen is their speed and not a moment of it."""
_PAGE = 4096


class WayLeft:
    """Of one migration, as its process tells of it whenever somebody looks."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in seconds."""
        self._now = now
        self._looked_at: float | None = None
        self._left = 0
        self._speed = 0.0

    def look(self, memory: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]) -> MigrationProgress:
        """What ``query-migrate`` says of memory, nothing while disks go ahead, and ``query-jobs`` of the disks."""
        ram = memory.get("ram", {})
        of_disks = sum(job["total-progress"] - job["current-progress"] for job in jobs)
        size = sum(job["total-progress"] for job in jobs) + ram.get("total", 0)
        left = of_disks + ram.get("remaining", 0)
        return MigrationProgress(
            stage="memory" if memory else "disks",
            percent=99 - min(99, left * 99 // size) if size else 0,
            remaining=left,
            dirty_rate=_bytes_of(ram, "dirty-pages-rate"),
            expected_downtime=memory.get("expected-downtime", 0) / 1000,
            time_left=_time_of_memory(ram) if memory else self._time_of_disks(of_disks),
        )

    def _time_of_disks(self, left: int) -> float | None:
        """What the guest writes meanwhile is in what is left, and so in how fast that gets less."""
        now = self._now()
        if self._looked_at is None:
            self._looked_at, self._left = now, left
        elif now - self._looked_at >= _APART:
            self._speed = (self._left - left) / (now - self._looked_at)
            self._looked_at, self._left = now, left
        return left / self._speed if self._speed > 0 else None


def _time_of_memory(ram: Mapping[str, Any]) -> float | None:
    """Pages and not ``mbps``: one of zeros is a page less to go, and takes next to nothing on the wire."""
    speed = _bytes_of(ram, "pages-per-second") - _bytes_of(ram, "dirty-pages-rate")
    return float(ram["remaining"] / speed) if speed > 0 else None


def _bytes_of(ram: Mapping[str, Any], pages: str) -> int:
    return int(ram.get(pages, 0) * ram.get("page-size", _PAGE))
