"""The thread that removes and releases images when clusters let it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from compute_agent.errors import ComputeAgentError
from compute_agent.storage.rbd.purge import PurgeQueue

LOG = logging.getLogger(__name__)

_INTERVAL = 10.0
_LAST_BREATH = 1.0


class Purging:
    """Runs queues at once, when it is woken, and now and then."""

    def __init__(self, queues: Sequence[PurgeQueue]) -> None:
        self._queues = queues
        self._wanted = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ceph-purging", daemon=True)
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
            for queue in self._queues:
                try:
                    queue.run_due()
                except ComputeAgentError as error:
                    LOG.warning("Images wait to be removed or released: %s", error)
            self._wanted.wait(_INTERVAL)
