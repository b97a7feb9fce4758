"""The clusters that this node has to do with, each connected once."""

from __future__ import annotations

import logging
import threading

from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.rbd.evacuation import is_evacuated
from compute_agent.storage.rbd.purge import UnwantedImage

LOG = logging.getLogger(__name__)


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

    def remove(self, unwanted: UnwantedImage, host: str) -> None:
        """Nobody wants it; as `Cluster.remove`, or `Cluster.remove_snapshot`. What has gone from `host` stays."""
        cluster = self.get(unwanted.user)
        if is_evacuated(cluster, unwanted.pool, unwanted.image, host):
            LOG.warning("%s/%s has been evacuated to another host, and stays", unwanted.pool, unwanted.image)
        elif unwanted.snapshot is None:
            cluster.remove(unwanted.pool, unwanted.image)
        else:
            cluster.remove_snapshot(unwanted.pool, unwanted.image, unwanted.snapshot)

    def release(self, abandoned: UnwantedImage, host: str) -> None:
        """An image that `host` has, and no guest of it any more, is nobody's."""
        cluster = self.get(abandoned.user)
        if not cluster.exists(abandoned.pool, abandoned.image):
            return
        owner = cluster.owner(abandoned.pool, abandoned.image)
        if owner is not None and owner.host == host:
            cluster.release(abandoned.pool, abandoned.image, owner)

    def close(self) -> None:
        """End all connections that are not in use."""
        with self._lock:
            for cluster in self._clusters.values():
                cluster.close()
