"""An instance's own disks as local files: overlays on cached images, and empty ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compute_agent.errors import InvalidImage, InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import FileSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.files import require_present, require_space, write_complete
from compute_agent.storage.images import ImageCache
from compute_agent.storage.inspection import require_growth, virtual_size
from compute_agent.storage.layers.chain import layer_path, layers_beside, with_layers
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.server.exports import FileExport
from compute_agent.storage.settings import Preallocation, StorageSettings
from compute_agent.storage.source import Place

_GIB = 1024**3

_OVERHEAD = 1024 * 1024
"""Bytes: more than the tables of a new qcow2 take."""

_TAKEN_AT_ONCE: dict[Preallocation, int] = {"metadata": 4096, "falloc": 1, "full": 1}
"""The part of a disk's size that is taken when it is made: 16 bytes for 64 KiB, or all of it."""


class Qcow2Disks:
    """The `compute_agent.storage.source.DiskKind` of local disks. No two guests can open one: QEMU locks the file."""

    def __init__(self, settings: StorageSettings, images: ImageCache, qemu_img: QemuImg) -> None:
        self._images = images
        self._qemu_img = qemu_img
        self._reserved_space = settings.reserved_space
        self._preallocation = settings.preallocation
        self._secret_dir = settings.rbd.ceph.secret_dir

    def check(self, field: str, device: BlockDevice) -> None:
        """Every node has room for files; an image in Ceph stays there."""
        if device.image is not None and device.image.url.startswith("rbd://"):
            raise InvalidMessage(
                f"{field}.image.url", device.image.url, "a qcow2 disk cannot stand on an image in Ceph"
            )

    def make(self, place: Place, device: BlockDevice, progress: Progress) -> None:
        """An overlay on the image, or an empty disk."""
        write_complete(_path(place), partial(self._make, place, device))

    def connect(self, place: Place, device: BlockDevice) -> FileSource:
        """The file, which QEMU locks."""
        return self.file(place, device)

    def export(self, place: Place, device: BlockDevice) -> FileExport:
        """The file, which the block server locks."""
        return FileExport(name=place.name, source=self.connect(place, device))

    def file(self, place: Place, device: BlockDevice) -> FileSource:
        """With its layers, and the image that it stands on."""
        backing = None
        if device.image is not None:
            base = self._images.base(place.instance_uuid, place.name, device.image, device.image.disk_format)
            backing = FileSource(path=base, format=device.image.disk_format)
        first = FileSource(path=require_present(_path(place)), format="qcow2", backing=backing)
        return with_layers(first, device.layers)

    def disconnect(self, place: Place) -> None:
        """A file is let go of by the guest's end."""

    def size(self, place: Place, device: BlockDevice) -> int:
        """As the file's header has it."""
        return virtual_size(self.file(place, device).path, "qcow2")

    def check_growth(self, place: Place, device: BlockDevice, size: int) -> None:
        """No disk is cut off."""
        require_growth(self.size(place, device), size)

    def grow(self, place: Place, device: BlockDevice, size: int, *, running: bool) -> None:
        """A running guest's QEMU grows the file itself."""
        path, found = self.file(place, device).path, self.size(place, device)
        require_growth(found, size)
        if found < size and not running:
            self._qemu_img.resize(path, size, passphrase=self._passphrase(device))

    def delete(self, place: Place) -> None:
        """Remove the file, and its layers."""
        if place.directory.exists():
            for layer in layers_beside(_path(place)):
                layer_path(_path(place), layer).unlink(missing_ok=True)
        _path(place).unlink(missing_ok=True)

    def _make(self, place: Place, device: BlockDevice, path: Path) -> None:
        size = (device.size_gb or 0) * _GIB
        if device.image is None:
            self._require_space(path, size)
            self._qemu_img.create_empty(path, size, self._preallocation, self._passphrase(device))
            return
        base = self._images.link(place.instance_uuid, place.name, device.image, device.image.disk_format)
        needed = virtual_size(base, device.image.disk_format)
        if size and needed > size:
            reason = f"the image's virtual size of {needed} bytes does not fit in the disk's {size} bytes"
            raise InvalidImage("size_gb", device.size_gb, reason)
        self._require_space(path, size or needed)
        whole = (base, device.image.disk_format)
        self._qemu_img.create_overlay(path, whole, size or needed, self._preallocation, self._passphrase(device))

    def _passphrase(self, device: BlockDevice) -> str | None:
        return passphrase_of(device, self._secret_dir)

    def _require_space(self, path: Path, size: int) -> None:
        needed = _OVERHEAD + size // _TAKEN_AT_ONCE[self._preallocation] if self._preallocation != "off" else _OVERHEAD
        require_space(path.parent.parent, needed, self._reserved_space)


def _path(place: Place) -> Path:
    return place.directory / f"{place.name}.qcow2"
