"""Making an instance's own disk in a cluster: empty, a clone of its image, or a LUKS container with its content."""

from __future__ import annotations

import re
from pathlib import Path

from compute_agent.errors import InvalidImage, InvalidMessage
from compute_agent.host.durable import PART_SUFFIX
from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.devices import FileSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.images import ImageCache
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.qemu_img import LUKS_HEADER, QemuImg
from compute_agent.storage.rbd.cluster import Cluster
from compute_agent.storage.rbd.conversion import ClusterSnapshot, Content, Conversion, Target
from compute_agent.storage.rbd.notes import Note
from compute_agent.storage.rbd.upload import SNAPSHOT, Uploader, discard
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import Place

_GIB = 1024**3
_IMAGE_URL = re.compile(r"rbd://(?P<fsid>[0-9a-f-]+)/(?P<pool>[^/]+)/(?P<image>[^/]+)/(?P<snapshot>[^/]+)")
"""As Glance writes it."""
_COMPLETE = "compute_agent.complete"
"""The mark of a container that has all of its content; without it, it is made anew."""


def check_image_url(field: str, device: BlockDevice) -> None:
    """:raises InvalidMessage: the image is said to be in Ceph, but not where."""
    image = device.image
    if image is not None and image.url.startswith("rbd:") and not _IMAGE_URL.fullmatch(image.url):
        raise InvalidMessage(f"{field}.image.url", image.url, "is not rbd://FSID/POOL/IMAGE/SNAPSHOT")


def size_in_cluster(device: BlockDevice, size: int) -> int:
    """Bytes of the image of an own disk that shows `size` bytes to its guest."""
    return size + LUKS_HEADER if device.encryption is not None else size


class OwnImages:
    """All may be repeated after a crash, and for many threads."""

    def __init__(self, settings: StorageSettings, images: ImageCache, qemu_img: QemuImg) -> None:
        self._images = images
        self._qemu_img = qemu_img
        self._secret_dir = settings.rbd.ceph.secret_dir
        self._conversion = Conversion(settings.qemu_img, settings.rbd.ceph.long_call_timeout)
        self._uploader = Uploader(settings.host, self._conversion)

    def make(self, cluster: Cluster, note: Note, place: Place, device: BlockDevice, progress: Progress) -> None:
        """Make the image that `note` names. The device's own image is brought into the cluster if it is not there.

        :raises InvalidImage: it is larger than the disk, or in another cluster.
        """
        if device.encryption is not None:
            self._make_container(cluster, note, place, device, progress)
        elif device.image is None:
            cluster.create(note.pool, note.image, (device.size_gb or 0) * _GIB)
        else:
            self._clone(cluster, note, device, device.image, progress)

    def _clone(self, cluster: Cluster, note: Note, device: BlockDevice, image: Image, progress: Progress) -> None:
        content = self._content(cluster, image)
        needed = _size_of(cluster, content)
        size = _disk_size(device, needed)
        if isinstance(content, FileSource):
            name = f"image-{image.checksum.replace(':', '-')}-{image.disk_format}"
            self._uploader.upload(cluster, content, note.pool, name, progress)
            content = ClusterSnapshot(pool=note.pool, image=name, snapshot=SNAPSHOT)
        cluster.clone(note.pool, note.image, content.pool, content.image, content.snapshot)
        if size > needed:
            cluster.resize(note.pool, note.image, size)

    def _make_container(
        self, cluster: Cluster, note: Note, place: Place, device: BlockDevice, progress: Progress
    ) -> None:
        """A clone would have its parent's blocks as they are: the content is copied."""
        if cluster.exists(note.pool, note.image) and cluster.get_mark(note.pool, note.image, _COMPLETE):
            return
        content = None if device.image is None else self._content(cluster, device.image)
        size = _disk_size(device, 0 if content is None else _size_of(cluster, content))
        discard(cluster, note.pool, note.image)
        cluster.create(note.pool, note.image, size_in_cluster(device, size))
        passphrase = passphrase_of(device, self._secret_dir)
        self._write_header(cluster, note, place.directory / f"{place.name}.luks{PART_SUFFIX}", str(passphrase))
        if content is not None:
            target = Target(pool=note.pool, image=note.image, passphrase=passphrase)
            self._conversion.fill(cluster, content, target, progress)
        cluster.set_mark(note.pool, note.image, _COMPLETE, "yes")

    def _write_header(self, cluster: Cluster, note: Note, part: Path, passphrase: str) -> None:
        try:
            self._qemu_img.create_luks_header(part, passphrase)
            source, target = FileSource(path=part, format="raw"), Target(pool=note.pool, image=note.image)
            self._conversion.fill(cluster, source, target, lambda percent: None)
        finally:
            part.unlink(missing_ok=True)

    def _content(self, cluster: Cluster, image: Image) -> Content:
        in_ceph = _IMAGE_URL.fullmatch(image.url)
        if in_ceph is None:
            return FileSource(path=self._images.path(image, image.disk_format), format=image.disk_format)
        if in_ceph["fsid"] != cluster.fsid():
            raise InvalidImage("image.url", image.url, f"is in another cluster than the disk ({cluster.fsid()})")
        return ClusterSnapshot(pool=in_ceph["pool"], image=in_ceph["image"], snapshot=in_ceph["snapshot"])


def _size_of(cluster: Cluster, content: Content) -> int:
    """Bytes that a guest sees of it."""
    if isinstance(content, FileSource):
        return virtual_size(content.path, content.format)
    return cluster.info(content.pool, content.image).size


def _disk_size(device: BlockDevice, needed: int) -> int:
    size = (device.size_gb or 0) * _GIB
    if size and needed > size:
        reason = f"the image's virtual size of {needed} bytes does not fit in the disk's {size} bytes"
        raise InvalidImage("size_gb", device.size_gb, reason)
    return size or needed
