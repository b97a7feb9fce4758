"""A guest that writes faster than its memory is carried never gets there: what is done about it, and when."""

from __future__ import annotations

import time
from collections.abc import Callable

from compute_agent.agent.settings import MigrationSettings
from compute_agent.virt.migration import Pace

_LEVELS = 8
"""Of how long the guest may stand still, reached in the first half of the time."""


class Convergence:
    """First it may stand still for longer, step by step; then it is slowed down; then its time is over."""

    def __init__(self, settings: MigrationSettings, now: Callable[[], float] = time.monotonic) -> None:
        """`now` in seconds; the time begins when `pace` is asked for first."""
        self._settings = settings
        self._now = now
        self._began: float | None = None

    def first_pace(self) -> Pace:
        """Before the time begins."""
        return self._pace(0.0)

    def pace(self) -> Pace:
        """For now."""
        return self._pace(self._elapsed() / self._settings.timeout)

    def is_over(self) -> bool:
        """It had its time."""
        return self._elapsed() > self._settings.timeout

    def _elapsed(self) -> float:
        if self._began is None:
            self._began = self._now()
        return self._now() - self._began

    def _pace(self, part: float) -> Pace:
        settings = self._settings
        level = min(int(part * 2 * _LEVELS), _LEVELS)
        more = max(0.0, settings.longest_downtime - settings.downtime) * level / _LEVELS
        return Pace(
            bandwidth=settings.max_bandwidth * 1024**2,
            downtime=settings.downtime + more,
            throttles=part >= 0.5,
            compresses=settings.compression == "xbzrle",
        )
