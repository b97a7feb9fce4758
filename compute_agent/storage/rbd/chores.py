"""The thread that does what clusters let us do: remove and release images, and look how much room there is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from compute_agent.errors import ComputeAgentError

LOG = logging.getLogger(__name__)

_INTERVAL = 10.0
_LAST_BREATH = 1.0


class Chores:
    """Does all of them at once, when it is woken, and now and then."""

    def __init__(self, chores: Sequence[Callable[[], object]]) -> None:
        self._chores = chores
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ceph-chores", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new."""
        self._wanted.set()

    def close(self) -> None:
        """Stop after what is under way, or without waiting for it where a cluster takes its time."""
        self._closed = True
        self._wanted.set()
        self._thread.join(_LAST_BREATH)

    def _run(self) -> None:
        while not self._closed:
            self._wanted.clear()
            for chore in self._chores:
                try:
                    chore()
                except ComputeAgentError as error:
                    LOG.warning("Something about Ceph has to wait: %s", error)
                except Exception:  # the thread's edge: the other chores are to be done all the same
                    LOG.exception("Something about Ceph has to wait, and nobody foresaw why")
            self._wanted.wait(_INTERVAL)
