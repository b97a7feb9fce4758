"""Snapshots that stay in Ceph: an image there that disks can be cloned from. Nothing of it goes through this node."""

from __future__ import annotations

import time

from compute_agent.errors import InvalidMessage
from compute_agent.instance.copies import Snapshot
from compute_agent.instance.preparation import prepare
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.places import Places, read_description, write_description
from compute_agent.storage.files import remove_tree
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.purge import UnwantedImage
from compute_agent.storage.rbd.spare_images import SpareImages
from compute_agent.storage.rbd.upload import SNAPSHOT

_CLONED = "cloned"


class _Kept(Snapshot, frozen=True, kw_only=True):
    """What is kept of one besides what is told."""

    image: UnwantedImage


prepare(_Kept)


class DirectSnapshots:
    """Each verb may be repeated after a crash."""

    def __init__(self, places: Places, disks: CopiedDisks, images: SpareImages) -> None:
        self._places = places
        self._disks = disks
        self._images = images

    def prepare(self, order: CopyOrder) -> None:
        """:raises InvalidMessage: the disk is not in Ceph, or its content is hidden."""
        (device,) = order.devices
        if self._disks.file(order.instance, device) is not None:
            reason = f"{device.device_name} is in a local file: its snapshot can only be one too (backend qcow2)"
            raise InvalidMessage("backend", "rbd", reason)
        if device.encryption is not None:
            raise InvalidMessage("disks", device.device_name, "is encrypted: a snapshot is an image for everybody")
        self._images.note(self._places.make_directory(order), [self._image(order), self._moment(order)])

    def has_moment(self, order: CopyOrder) -> bool:
        """The disk has been held fast."""
        moment = self._moment(order)
        found = self._cluster(order).list_snapshots(moment.pool, moment.image)
        return any(one.name == moment.snapshot for one in found)

    def take_moment(self, order: CopyOrder) -> None:
        """Hold the disk fast as it is now. Whoever has it open is asked by the cluster to say when that is."""
        moment = self._moment(order)
        self._cluster(order).create_snapshot(moment.pool, moment.image, str(moment.snapshot))

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """Make an image of it that stands on nothing, and can be stood on."""
        cluster, moment, image = self._cluster(order), self._moment(order), self._image(order)
        cloned = self._places.unfinished(order) / _CLONED
        if not cloned.exists():  # a clone that has been made independent would be taken for something else
            cluster.clone(image.pool, image.image, moment.pool, moment.image, str(moment.snapshot))
            cloned.touch()
        cluster.break_writer(image.pool, image.image)  # a worker of ours, of an agent that was killed
        cluster.flatten(image.pool, image.image)
        progress(99)
        cluster.create_snapshot(image.pool, image.image, SNAPSHOT, protect=True)
        cluster.remove_snapshot(moment.pool, moment.image, str(moment.snapshot))

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        """It can be asked for."""
        image = self._image(order)
        cluster = self._cluster(order)
        size = cluster.info(image.pool, image.image).size
        kept = _Kept(
            image_id=order.copy_id,
            instance_uuid=order.instance.uuid,
            url=f"rbd://{cluster.fsid()}/{image.pool}/{image.image}/{SNAPSHOT}",
            checksum="",
            disk_format="raw",
            size=size,
            virtual_size=size,
            created_at=time.time(),
            frozen=self._places.frozen_note(order).exists(),
            image=image,
        )
        write_description(self._places.snapshot_description(order.copy_id), kept)
        remove_tree(self._places.unfinished(order))

    def delete(self, image_id: str) -> None:
        """Without its snapshot nobody can clone it any more; the image goes when the cluster lets us.

        :raises DiskInUse: there are clones; says which.
        """
        path = self._places.snapshot_description(image_id)
        kept = read_description(path, _Kept)
        if kept is not None:
            image = kept.image
            self._images.cluster(image.user).remove_snapshot(image.pool, image.image, SNAPSHOT)
            self._images.remove_later([image])
            path.unlink()

    def _image(self, order: CopyOrder) -> UnwantedImage:
        """What the snapshot becomes."""
        moment = self._moment(order)
        return UnwantedImage(user=moment.user, pool=moment.pool, image=f"image-{order.copy_id}")

    def _moment(self, order: CopyOrder) -> UnwantedImage:
        """The snapshot of the disk that it is made from."""
        (device,) = order.devices
        disk = self._images.describe(self._disks.place(order.instance, device), device)
        return UnwantedImage(user=disk.user, pool=disk.pool, image=disk.image, snapshot=f"image-{order.copy_id}")

    def _cluster(self, order: CopyOrder) -> Cluster:
        return self._images.cluster(self._moment(order).user)
