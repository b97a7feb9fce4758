"""The disks of one instance: each of its kind, and the config drive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import Disk, FileSource, NbdSource, VhostUserSource
from compute_agent.instance.model import Instance
from compute_agent.storage.config_drive.iso import write_iso
from compute_agent.storage.config_drive.nocloud import VOLUME_ID, make_files
from compute_agent.storage.contract import Progress
from compute_agent.storage.files import require_present, require_space, write_complete
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.server.served_disks import ServedDisks
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.serving import Serving
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import DiskKind, Place, is_read_only
from compute_agent.storage.sources import within

KindOf = Callable[[BlockDevice], DiskKind]

_OVERHEAD = 1024 * 1024
"""Bytes: more than the file system takes around the config drive's files."""

CONFIG_DRIVE = "config"


class InstanceDisks:
    """What is, or shall be, in `directory`, or is remembered there."""

    def __init__(
        self, directory: Path, instance: Instance, kind_of: KindOf, settings: StorageSettings, servers: BlockServers
    ) -> None:
        self._directory = directory
        self._instance = with_named_devices(instance)
        self._serving = Serving(self._instance, servers, settings)
        self._kind_of = kind_of
        self._settings = settings

    def make(self, reserved_space: int, progress: Progress) -> None:
        """Make every disk that is not there; the images are in the cache.

        :raises InvalidImage: a disk's image is larger than the disk.
        :raises InsufficientResources: less than `reserved_space` bytes would be left.
        :raises StorageError: it cannot be made.
        :raises OSError: the file system refuses.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for index, device in enumerate(self._instance.block_devices):
            with within(f"instance.block_devices[{index}]"):
                self.make_disk(device, progress)
        if self._instance.config_drive:
            drive = make_files(self._instance)
            require_space(self._directory.parent, sum(map(len, drive.values())) + _OVERHEAD, reserved_space)
            write_complete(self._config_path(), lambda path: write_iso(VOLUME_ID, drive, path))

    def make_disk(self, device: BlockDevice, progress: Progress) -> None:
        """Make one disk, unless it is there."""
        self._kind_of(device).make(self._place(device), device, progress)

    def connect(self, *, vhost_user: bool) -> list[Disk]:
        """The disks in order, the config drive last.

        :raises StorageError: one is missing or cannot be reached; nothing is left open.
        """
        disks: list[Disk] = []
        try:
            for device in self._instance.block_devices:
                disks.append(self.connect_disk(device, vhost_user=vhost_user))
            if self._instance.config_drive:
                disks.append(self._connect_config_drive(vhost_user=vhost_user))
        except BaseException:
            for disk in disks:
                disk.close()
            raise
        return disks

    def connect_disk(self, device: BlockDevice, *, vhost_user: bool) -> Disk:
        """One of them."""
        kind, place = self._kind_of(device), self._place(device)
        if vhost_user:
            return self._describe(device, self._serving.connect(kind.export(place, device), device))
        return self._describe(device, kind.connect(place, device))

    def names(self) -> list[str]:
        """What they are called, in order."""
        names = [str(device.device_name) for device in self._instance.block_devices]
        return [*names, CONFIG_DRIVE] if self._instance.config_drive else names

    def grow(self, device: BlockDevice, size: int, *, running: bool) -> Disk | None:
        """See the contract."""
        fresh = self._kind_of(device).grow(self._place(device), device, size, running=running)
        return None if fresh is None else self._describe(device, fresh)

    def grow_served(self, device: BlockDevice, size: int) -> None:
        """See the contract."""
        self._kind_of(device).check_growth(self._place(device), device, size)
        self._serving.grow(device, size)

    def find_served(self) -> ServedDisks | None:
        """See the contract."""
        return self._serving.find_served_disks(self._directory)

    def _describe(self, device: BlockDevice, source: FileSource | NbdSource | VhostUserSource) -> Disk:
        passphrase = passphrase_of(device, self._settings.rbd.ceph.secret_dir)
        cache = self._settings.cache_of(device)
        return Disk(
            name=str(device.device_name),
            source=source,
            read_only=is_read_only(device),
            serial=self._serial(device),
            boot_index=self._boot_index(device),
            bus=device.disk_bus,
            cache=cache,
            aio=self._settings.aio_with(cache),
            discard=device.discard,
            detect_zeroes=device.detect_zeroes,
            queues=device.queues,
            qos=device.qos,
            passphrase=passphrase.encode() if passphrase else None,
        )

    def _connect_config_drive(self, *, vhost_user: bool) -> Disk:
        file = FileSource(path=require_present(self._config_path()), format="raw")
        source = self._serving.connect_read_only(CONFIG_DRIVE, file) if vhost_user else file
        return Disk(name=CONFIG_DRIVE, source=source, read_only=True, serial=self._own_serial(CONFIG_DRIVE))

    def _boot_index(self, device: BlockDevice) -> int | None:
        devices = self._instance.block_devices
        ordered = self._instance.direct_boot is not None or any(one.boot_index is not None for one in devices)
        return 0 if device is devices[0] and not ordered else device.boot_index

    def _serial(self, device: BlockDevice) -> str:
        """A volume is known by its own id in every guest, as far as virtio-blk shows it: 20 characters."""
        return device.volume_id[:20] if device.volume_id else self._own_serial(str(device.device_name))

    def _own_serial(self, name: str) -> str:
        """What is unique in the guest, after what is unique in the cloud."""
        start = self._instance.uuid.replace("-", "")
        return f"{start[: 19 - len(name)]}-{name}"

    def _place(self, device: BlockDevice) -> Place:
        return Place(instance_uuid=self._instance.uuid, directory=self._directory, name=str(device.device_name))

    def _config_path(self) -> Path:
        return self._directory / f"{CONFIG_DRIVE}.iso"
