"""The clusters that this node has to do with, each connected once."""

from __future__ import annotations

import threading

from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser


class Clusters:
    """Clusters by name and user; for many threads."""

    def __init__(self, settings: CephSettings) -> None:
        self._settings = settings
        self._clusters: dict[ClusterUser, Cluster] = {}
        self._lock = threading.Lock()

    def get(self, user: ClusterUser) -> Cluster:
        """Nothing is connected, or looked for, before it is asked for something."""
        with self._lock:
            return self._clusters.setdefault(user, Cluster(user, self._settings))

    def close(self) -> None:
        """End all connections that are not in use."""
        with self._lock:
            for cluster in self._clusters.values():
                cluster.close()
