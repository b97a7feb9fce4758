"""Whose an image is when the host that had it is dead: a mark on it, which outlives all locks, says to whom it went.

The mark is the image's metadata: instance, epoch and host of its last evacuation, and of the moves that followed it. A
host that comes back and knows a lower epoch finds there that the instance is not its own any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from compute_agent.errors import MigrationRefused
from compute_agent.storage.rbd.answers import Owner
from compute_agent.storage.rbd.cluster import Cluster

_KEY = "compute_agent.evacuated"


class _Mark(NamedTuple):
    instance_uuid: str
    epoch: int
    host: str


@dataclass(frozen=True, slots=True)
class EvacuatedImage:
    """An image of one instance, as one host sees it."""

    cluster: Cluster
    pool: str
    image: str
    own: Owner
    """The instance on this host."""

    def check(self, source: str, epoch: int) -> None:
        """See that the instance may be taken from the host `source`; changes nothing.

        :raises MigrationRefused: the image is not there, is another's, or went to somebody at this epoch or later.
        """
        if not self.cluster.exists(self.pool, self.image):
            raise MigrationRefused("disks", f"{self} is not in the cluster that is known here")
        owner = self.cluster.owner(self.pool, self.image)
        if owner not in (None, self.own, Owner(source, self.own.instance_uuid)):
            raise MigrationRefused("source", f"{self} is not {source}'s: it belongs to {owner}")
        mark = self._mark()
        if mark is not None and (mark.epoch > epoch or (mark.epoch == epoch and mark.host != self.own.host)):
            raise MigrationRefused("epoch", f"{epoch} is not above {mark.epoch}, at which {self} went to {mark.host}")

    def claim(self, source: str, epoch: int) -> None:
        """Take the image from a host that is dead, or believed to be: what may still run there cannot write to it.

        :raises MigrationRefused: as `check`.
        """
        self.check(source, epoch)
        self.cluster.break_writer(self.pool, self.image)  # or the mark would wait for it
        self._write(epoch)
        self.cluster.release(self.pool, self.image, Owner(source, self.own.instance_uuid))
        self.cluster.take(self.pool, self.image, self.own)
        self.cluster.break_writer(self.pool, self.image)  # of an agent there that lived, and started one meanwhile

    def is_lost(self, epoch: int) -> bool:
        """It has been evacuated to another host since, by the mark: a lock of another alone ends no guest."""
        mark = self._mark() if self.cluster.exists(self.pool, self.image) else None
        return mark is not None and mark.epoch > epoch and mark.host != self.own.host

    def note_owner(self, epoch: int) -> None:
        """It has moved here. Nothing happens where it has never been evacuated."""
        if self._mark() is not None:
            self._write(epoch)

    def __str__(self) -> str:
        return f"{self.pool}/{self.image}"

    def _write(self, epoch: int) -> None:
        value = f"{self.own.instance_uuid} {epoch} {self.own.host}"
        self.cluster.set_mark(self.pool, self.image, _KEY, value)

    def _mark(self) -> _Mark | None:
        """What another instance had left on a volume says nothing of this one."""
        mark = _read(self.cluster, self.pool, self.image)
        return mark if mark is not None and mark.instance_uuid == self.own.instance_uuid else None


def is_evacuated(cluster: Cluster, pool: str, image: str, host: str) -> bool:
    """It has gone to another host than this one, which may still have it."""
    mark = _read(cluster, pool, image) if cluster.exists(pool, image) else None
    return mark is not None and mark.host != host


def _read(cluster: Cluster, pool: str, image: str) -> _Mark | None:
    found = cluster.get_mark(pool, image, _KEY)
    if found is None:
        return None
    instance_uuid, epoch, host = found.split()
    return _Mark(instance_uuid, int(epoch), host)
