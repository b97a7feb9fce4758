"""The disks of one instance: qcow2 overlays on cached images, empty qcow2 disks, and the config drive."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compute_agent.errors import InvalidImage
from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.config_drive.iso import write_iso
from compute_agent.storage.config_drive.nocloud import VOLUME_ID, make_files
from compute_agent.storage.files import require_present, require_space, write_complete
from compute_agent.storage.images import ImageCache
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.qemu_img import QemuImg

_GIB = 1024**3

_OVERHEAD = 1024 * 1024
"""Bytes: more than the tables of a new qcow2 take, or the file system around the config drive's files."""

_CONFIG_DRIVE = "config"


class InstanceDisks:
    """What is, or shall be, in `directory`."""

    def __init__(self, directory: Path, instance: Instance, images: ImageCache, qemu_img: QemuImg) -> None:
        self._directory = directory
        self._instance = instance
        self._images = images
        self._qemu_img = qemu_img

    def make(self, reserved_space: int) -> None:
        """Make every file that is not there; the images are in the cache.

        :raises InvalidImage: a disk's image is larger than the disk.
        :raises InsufficientResources: less than `reserved_space` bytes would be left.
        :raises StorageError: qemu-img failed.
        :raises OSError: the file system refuses.
        """
        drive = make_files(self._instance) if self._instance.config_drive else {}
        needed = sum(map(len, drive.values())) + _OVERHEAD * (len(self._instance.block_devices) + 1)
        require_space(self._directory.parent, needed, reserved_space)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for index, device in enumerate(self._instance.block_devices):
            write_complete(self._disk_path(index), partial(self._make_disk, index, device))
        if self._instance.config_drive:
            write_complete(self._config_path(), partial(write_iso, VOLUME_ID, drive))

    def describe(self) -> list[Disk]:
        """The disks in order, the config drive last.

        :raises StorageError: a file is missing.
        """
        disks = [self._describe_disk(index, device) for index, device in enumerate(self._instance.block_devices)]
        return disks + ([self._describe_config_drive()] if self._instance.config_drive else [])

    def _make_disk(self, index: int, device: BlockDevice, path: Path) -> None:
        size = (device.size_gb or 0) * _GIB
        if device.image is None:
            self._qemu_img.create_empty(path, size)
            return
        base = self._images.path(device.image, device.image.disk_format)
        needed = virtual_size(base, device.image.disk_format)
        if size and needed > size:
            reason = f"the image's virtual size of {needed} bytes does not fit in the disk's {size} bytes"
            raise InvalidImage(f"instance.block_devices[{index}].size_gb", device.size_gb, reason)
        self._qemu_img.create_overlay(path, base, device.image.disk_format, size or needed)

    def _describe_disk(self, index: int, device: BlockDevice) -> Disk:
        name = f"disk{index}"
        return Disk(
            name=name,
            source=FileSource(
                path=require_present(self._disk_path(index)),
                format="qcow2",
                backing=self._describe_base(device.image) if device.image else None,
            ),
            serial=self._serial(name),
            boot_index=self._boot_index(index),
        )

    def _describe_base(self, image: Image) -> FileSource:
        path = require_present(self._images.path(image, image.disk_format))
        return FileSource(path=path, format=image.disk_format)

    def _describe_config_drive(self) -> Disk:
        source = FileSource(path=require_present(self._config_path()), format="raw")
        return Disk(name=_CONFIG_DRIVE, source=source, read_only=True, serial=self._serial(_CONFIG_DRIVE))

    def _boot_index(self, index: int) -> int | None:
        devices = self._instance.block_devices
        ordered = self._instance.direct_boot is not None or any(device.boot_index is not None for device in devices)
        return 0 if index == 0 and not ordered else devices[index].boot_index

    def _serial(self, name: str) -> str:
        """20 characters, the most that virtio-blk shows: what is unique in the guest, after what is in the cloud."""
        start = self._instance.uuid.replace("-", "")
        return f"{start[: 19 - len(name)]}-{name}"

    def _disk_path(self, index: int) -> Path:
        return self._directory / f"disk{index}.qcow2"

    def _config_path(self) -> Path:
        return self._directory / f"{_CONFIG_DRIVE}.iso"
