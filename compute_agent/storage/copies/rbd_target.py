"""Backups in Ceph: an image for each disk; one that has a parent is a clone of it, and has what was written since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compute_agent.errors import InvalidMessage
from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.places import Places
from compute_agent.storage.rbd.purge import UnwantedImage
from compute_agent.storage.rbd.spare_images import SpareImages
from compute_agent.storage.rbd.upload import SNAPSHOT


class RbdTarget:
    """The `compute_agent.storage.copies.target.CopyTarget` of them, in the pool for the instances' own disks."""

    is_zero = True

    def __init__(self, places: Places, images: SpareImages) -> None:
        self._places = places
        self._images = images

    def check(self, order: CopyOrder, sizes: Mapping[str, int], taken: int) -> None:
        """The parent's images have to be there. How much room there is only the cluster knows, when it is full."""
        if self._images.own_pool is None:
            raise InvalidMessage("target", "rbd", "this node makes nothing in Ceph ([storage] rbd_pool is empty)")
        for disk in sizes:
            if order.parent is not None and _name(order.parent, disk) not in self._noted(order.parent):
                raise InvalidMessage("parent", order.parent, f"there is no such backup of {disk} in Ceph")

    def make(self, order: CopyOrder, sizes: Mapping[str, int]) -> None:
        """An image for each."""
        images = {disk: self._image(order.copy_id, disk) for disk in sizes}
        self._images.note(self._places.unfinished(order), list(images.values()))
        for disk, image in images.items():
            cluster = self._images.cluster(image.user)
            if order.parent is None:
                cluster.create(image.pool, image.image, sizes[disk])
            else:
                parent = self._image(order.parent, disk)
                cluster.clone(image.pool, image.image, parent.pool, parent.image, SNAPSHOT)
                cluster.resize(image.pool, image.image, sizes[disk])

    def open(self, order: CopyOrder, disk: str) -> NbdSource:
        """The instance's block server has the image open."""
        return self._images.serve(order.instance.uuid, self._image(order.copy_id, disk))

    def complete(self, order: CopyOrder, disk: str) -> DiskBackup:
        """Its snapshot is what others stand on."""
        image = self._image(order.copy_id, disk)
        self._images.stop_serving(order.instance.uuid, image)
        cluster = self._images.cluster(image.user)
        cluster.create_snapshot(image.pool, image.image, SNAPSHOT, protect=True)
        size = cluster.info(image.pool, image.image).size
        return DiskBackup(name=disk, size=size, virtual_size=size)

    @contextmanager
    def reading(self, instance_uuid: str, backup: Backup, disk: str) -> Iterator[NbdSource]:
        """The image, which nobody writes to any more."""
        image = self._image(backup.backup_id, disk)
        source = self._images.serve(instance_uuid, image, read_only=True)
        try:
            yield source
        finally:
            source.close()
            self._images.stop_serving(instance_uuid, image)

    def _image(self, backup_id: str, disk: str) -> UnwantedImage:
        pool = self._images.own_pool
        if pool is None:  # no more
            raise InvalidMessage("backup_id", backup_id, "is in Ceph, and this node has no pool there")
        return UnwantedImage(user=pool.user, pool=pool.pool, image=_name(backup_id, disk))

    def _noted(self, backup_id: str) -> set[str]:
        return {image.image for image in self._images.noted(self._places.backup(backup_id))}


def _name(backup_id: str, disk: str) -> str:
    return f"backup-{backup_id}-{disk}"
