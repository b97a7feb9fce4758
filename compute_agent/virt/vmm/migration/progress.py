"""How fast a machine is carried, and how much is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from compute_agent.virt.kvm.pages import PAGE
from compute_agent.virt.vmm.migration.parameters import Wishes

_LONGEST_NAP = 0.05
"""Seconds, so that one that is cancelled ends soon."""
_MILLISECONDS = 1000
_SHORTEST = 1e-6
"""Seconds that something takes."""
_UNKNOWN = float("inf")


class Progress:
    """Of one attempt; a round sends what was written during the one before."""

    def __init__(self, total: int, wishes: Wishes, now: Callable[[], float] = time.monotonic) -> None:
        """:param total: bytes of memory; `now` in seconds."""
        self._total = total
        self._wishes = wishes
        self._now = now
        self._began, self._sent = now(), 0
        self._left = total
        self._round_began, self._round_sent = self._began, 0
        self._downtime = _UNKNOWN
        self._dirty_rate = 0.0

    def begin_round(self, pages: int) -> None:
        """So many are to be sent; they were written since the round before began."""
        now = self._now()
        seconds = max(now - self._round_began, _SHORTEST)
        if self._round_sent:
            speed = min(self._round_sent / seconds, self._wishes.bandwidth)
            self._downtime = pages * PAGE / speed
            self._dirty_rate = pages / seconds
        self._left = pages * PAGE
        self._round_began, self._round_sent = now, 0

    def carried(self, size: int) -> None:
        """Bytes have been sent."""
        self._sent += size
        self._round_sent += size
        self._left = max(0, self._left - size)

    @property
    def nap(self) -> float:
        """Seconds to wait before more is sent, or to ask again; 0: it may be sent."""
        early = self._round_sent / self._wishes.bandwidth - (self._now() - self._round_began)
        return min(max(0.0, early), _LONGEST_NAP)

    @property
    def is_nearly_there(self) -> bool:
        """At the beginning of a round: the guest may be halted for what is left."""
        return not self._left or self._downtime <= self._wishes.downtime

    def describe(self) -> Mapping[str, object]:
        """For ``query-migrate``."""
        downtime = self._wishes.downtime if self._downtime == _UNKNOWN else self._downtime
        return {
            "ram": {
                "total": self._total,
                "transferred": self._sent,
                "remaining": self._left,
                "page-size": PAGE,
                "pages-per-second": int(self._sent / PAGE / max(self._now() - self._began, _SHORTEST)),
                "dirty-pages-rate": int(self._dirty_rate),
            },
            "expected-downtime": int(downtime * _MILLISECONDS),
            "total-time": int((self._now() - self._began) * _MILLISECONDS),
        }
