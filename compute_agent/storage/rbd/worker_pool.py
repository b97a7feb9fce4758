"""Worker processes of one cluster and user: started when needed, lent to one thread at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser, find_credentials
from compute_agent.storage.rbd.worker_process import WorkerProcess

LOG = logging.getLogger(__name__)

_MOST = 4
"""So many calls run at the same time; the others wait, as the cluster and this node have other things to do."""


class WorkerPool:
    """One of them stays when there is nothing to do: its connection makes the next call quick."""

    def __init__(self, user: ClusterUser, settings: CephSettings) -> None:
        self._user = user
        self._settings = settings
        self._idle: WorkerProcess | None = None
        self._lost_addresses: list[str] = []
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_MOST)

    @contextmanager
    def lend(self, seconds: float) -> Iterator[WorkerProcess]:
        """A connected worker, to be had within `seconds`; it is taken back unless it was lost.

        :raises InvalidMessage: of ``connection_info.data``: this node does not know the cluster, the user or the key.
        :raises StorageError: the cluster cannot be reached, or all are busy.
        """
        if not self._free.acquire(timeout=seconds):
            raise StorageError(
                f"cluster {self._user.cluster_name}: {_MOST} calls ran for {seconds:g} s, and no more may"
            )
        try:
            worker = self._take() or self._start(seconds)
            try:
                yield worker
            except DeadlineExceeded:
                self._lost(worker)
                raise
            self._keep(worker)
        finally:
            self._free.release()

    def close(self) -> None:
        """End the one that nobody uses."""
        worker = self._take()
        if worker is not None:
            worker.kill()

    def _start(self, seconds: float) -> WorkerProcess:
        """What the lost ones had open or locked would be in the way of this one for half a minute."""
        worker = WorkerProcess(self._user, find_credentials(self._user, self._settings))
        with self._lock:
            lost, self._lost_addresses = self._lost_addresses, []
        if lost:
            answer = worker.call("block", {"addresses": lost}, seconds)
            if "error" in answer:
                LOG.warning("Cluster %s does not block %s: %s", self._user.cluster_name, lost, answer["reason"])
        return worker

    def _lost(self, worker: WorkerProcess) -> None:
        worker.kill()
        with self._lock:
            self._lost_addresses.append(worker.address)

    def _take(self) -> WorkerProcess | None:
        with self._lock:
            worker, self._idle = self._idle, None
        if worker is not None and worker.has_ended():
            self._lost(worker)
            return None
        return worker

    def _keep(self, worker: WorkerProcess) -> None:
        with self._lock:
            if self._idle is None:
                self._idle = worker
                return
        worker.kill()
