"""How much room the pool has where this node makes disks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from compute_agent.errors import ComputeAgentError

LOG = logging.getLogger(__name__)

_LOOK_EVERY = 30.0
"""Seconds: all hosts of a cloud ask the same monitors."""


class PoolSpace:
    """What the cluster said last: who wants to know never waits for it."""

    def __init__(self, ask: Callable[[], Mapping[str, int]], clock: Callable[[], float] = time.monotonic) -> None:
        """`ask` may take its time, and raise a ComputeAgentError: then what was known grows old."""
        self._ask = ask
        self._clock = clock
        self._known: tuple[Mapping[str, int], float] | None = None
        self._is_told = False

    def look(self) -> None:
        """Ask, if the last answer is not from just now."""
        if self._known is not None and self._clock() - self._known[1] < _LOOK_EVERY:
            return
        try:
            self._known = self._ask(), self._clock()
            self._is_told = False
        except ComputeAgentError as error:
            if not self._is_told:
                LOG.warning("It is not known how much room there is in Ceph: %s", error)
            self._is_told = True

    def last_known(self) -> Mapping[str, int] | None:
        """Bytes, ``total`` and ``free``, and ``age``, the seconds since then; None before the first answer."""
        if self._known is None:
            return None
        space, when = self._known
        return {**space, "age": int(self._clock() - when)}
