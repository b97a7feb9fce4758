"""An image from this node into a cluster, once; then disks are clones of its snapshot."""

from __future__ import annotations

import logging

from compute_agent.errors import ComputeAgentError, StorageError
from compute_agent.host.durable import PART_SUFFIX
from compute_agent.instance.devices import FileSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.conversion import Conversion, Target
from compute_agent.storage.single_flight import SingleFlight

LOG = logging.getLogger(__name__)

SNAPSHOT = "base"
"""What disks are cloned from; it is protected."""


class Uploader:
    """Fills images under another name first, so that one with its own name is complete. For many threads."""

    def __init__(self, host: str, conversion: Conversion) -> None:
        """Two hosts may upload the same image at once: each has an unfinished one of its own."""
        self._suffix = f".{host}{PART_SUFFIX}"
        self._conversion = conversion
        self._flights = SingleFlight()

    def upload(self, cluster: Cluster, source: FileSource, pool: str, image: str, progress: Progress) -> None:
        """Have an image with the content of a file that was inspected, and a protected snapshot `SNAPSHOT`.

        Only one of many threads that ask at once brings it, and reports progress.

        :raises StorageError: it is not there, and what was begun is removed now or by the next attempt.
        :raises DeadlineExceeded: the cluster does not answer; the same holds.
        """
        flight = f"{cluster.user.cluster_name}/{pool}/{image}"
        self._flights.run(flight, lambda: self._bring(cluster, source, pool, image, progress))

    def _bring(self, cluster: Cluster, source: FileSource, pool: str, image: str, progress: Progress) -> None:
        if cluster.exists(pool, image):
            return
        part = f"{image}{self._suffix}"
        discard(cluster, pool, part)
        try:
            cluster.create(pool, part, virtual_size(source.path, source.format))
            self._conversion.fill(cluster, source, Target(pool=pool, image=part), progress)
            cluster.create_snapshot(pool, part, SNAPSHOT, protect=True)
            _publish(cluster, pool, part, image)
        except ComputeAgentError:
            _discard_if_possible(cluster, pool, part)
            raise


def _publish(cluster: Cluster, pool: str, part: str, image: str) -> None:
    try:
        cluster.rename(pool, part, image)
    except StorageError:
        if not cluster.exists(pool, image):  # else another host was quicker
            raise
        discard(cluster, pool, part)


def discard(cluster: Cluster, pool: str, part: str) -> None:
    """Remove it, and before that end the writing of a qemu-img that an agent left behind when it was killed."""
    if cluster.exists(pool, part):
        cluster.break_writer(pool, part)
        cluster.remove(pool, part)


def _discard_if_possible(cluster: Cluster, pool: str, part: str) -> None:
    try:
        discard(cluster, pool, part)
    except ComputeAgentError as error:
        LOG.warning("%s/%s stays until the next attempt: %s", pool, part, error)
