"""All disks of this node: a directory for each instance, each disk with its kind, on top of one cache of images."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from compute_agent.errors import ComputeAgentError, InvalidConfiguration, InvalidMessage
from compute_agent.instance.block_device import BlockDevice, FileConnection, RbdConnection
from compute_agent.instance.devices import BootFiles, Disk
from compute_agent.instance.model import Instance
from compute_agent.instance.view import CachedImage
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.storage.accounting import local_usage
from compute_agent.storage.checks import check_device, check_instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.store import NodeCopies
from compute_agent.storage.file_volumes import FileVolumes
from compute_agent.storage.files import (
    prepare_directory,
    remove_tree,
    storage_errors,
)
from compute_agent.storage.images import ImageCache
from compute_agent.storage.instance_disks import CONFIG_DRIVE, InstanceDisks
from compute_agent.storage.layers.store import FileLayers
from compute_agent.storage.moves import NodeMoves
from compute_agent.storage.moving.files import MovingFiles
from compute_agent.storage.qcow2.disks import Qcow2Disks
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.rbd.disks import RbdDisks
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.server.served_disks import ServedDisks
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import DiskKind, Place, SharedKind
from compute_agent.storage.sources import fetched_sources

_DELETING = ".deleting-"
_OURS = f"({re.escape(_DELETING)})?{UUID_PATTERN}"


class NodeDisks:
    """The `compute_agent.storage.contract.DiskDriver` of this node; called from many threads.

    :raises InvalidConfiguration: a directory or qemu-img cannot be used.
    :raises StorageError: what a crash left behind cannot be removed.
    """

    def __init__(self, settings: StorageSettings, servers: BlockServers) -> None:
        prepare_directory(settings.disk_dir, "storage.disk_dir")
        prepare_directory(settings.image_dir, "storage.image_dir")
        if shutil.which(settings.qemu_img) is None:
            raise InvalidConfiguration("storage.qemu_img", settings.qemu_img, "is not a program that can be run")
        self._settings = settings
        self._servers = servers
        self._qemu_img = QemuImg(settings.qemu_img, settings.qemu_img_timeout)
        with storage_errors(settings.disk_dir):
            self._images = ImageCache(settings, self._qemu_img)
            self._qcow2 = Qcow2Disks(settings, self._images, self._qemu_img)
            self._rbd = RbdDisks(settings, self._images, self._qemu_img, servers)
            self._file_volumes = FileVolumes(settings, self._qemu_img)
            for leftover in settings.disk_dir.glob(f"{_DELETING}*"):
                self._empty(leftover.name.removeprefix(_DELETING), leftover)
        disks = CopiedDisks(settings.disk_dir, self._kind_of)
        files = MovingFiles(disks, self._qemu_img, settings.reserved_space, settings.rbd.ceph.secret_dir)
        self.moves = NodeMoves(self._rbd, self._shared_kind_of, self._place_of, files, servers)
        self.layers = FileLayers(settings, self._kind_of)
        self.copies = NodeCopies(settings, disks, self._rbd)

    def check(self, instance: Instance) -> None:
        """Refuse what contradicts itself, and what this node cannot do; see the contract."""
        check_instance(instance)
        for index, device in enumerate(instance.block_devices):
            self._check_here(f"instance.block_devices[{index}]", device)

    def check_device(self, field: str, device: BlockDevice) -> None:
        """The same for one disk."""
        check_device(field, device)
        self._check_here(field, device)

    def _check_here(self, field: str, device: BlockDevice) -> None:
        passphrase_of(device, self._settings.rbd.ceph.secret_dir, field)
        self._kind_of(device).check(field, device)

    def create(self, instance: Instance, progress: Progress) -> None:
        """Fetch the images, make the disks; see the contract."""
        try:
            needed = self.moves.without_foreign_images(instance)
            with storage_errors(self._settings.disk_dir), fetched_sources(self._images, needed, progress):
                self._disks(instance).make(self._settings.reserved_space, progress)
                self._link_boot_files(instance)
        except ComputeAgentError:
            self.delete(instance.uuid)
            raise

    def connect(self, instance: Instance, *, vhost_user: bool) -> Sequence[Disk]:
        """The disks in order, the config drive last; see the contract."""
        return self._disks(instance).connect(vhost_user=vhost_user)

    def is_cut_off(self, instance: Instance, *, vhost_user: bool) -> bool:
        """See the contract."""
        served = [str(one.device_name) for one in instance.block_devices if self._kind_of(one) is self._rbd]
        wanted = self._disks(instance).names() if vhost_user else served
        return any(not self._servers.serves(instance.uuid, name) for name in wanted)

    def disconnect(self, instance_uuid: str) -> None:
        """Let go of all of them; see the contract."""
        self._servers.remove(instance_uuid, CONFIG_DRIVE)
        for place in self._places(instance_uuid, self._directory(instance_uuid)):
            self._disconnect(place)

    def _disconnect(self, place: Place) -> None:
        """The server has closed it before anybody else may have it."""
        self._servers.remove(place.instance_uuid, place.name)
        for kind in self._kinds:
            kind.disconnect(place)

    def create_disk(self, instance: Instance, device: BlockDevice, progress: Progress) -> None:
        """Make one more; see the contract."""
        try:
            with storage_errors(self._settings.disk_dir):
                self._disks(instance).make_disk(device, progress)
        except ComputeAgentError:
            self.delete_disk(instance.uuid, device)
            raise

    def delete_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        """Remove one; see the contract."""
        self._kind_of(device).delete(self._place(instance_uuid, device))

    def connect_disk(self, instance: Instance, device: BlockDevice, *, vhost_user: bool) -> Disk:
        """One of them; see the contract."""
        return self._disks(instance).connect_disk(device, vhost_user=vhost_user)

    def disconnect_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        """Let go of one; see the contract."""
        self._disconnect(self._place(instance_uuid, device))

    def grow_disk(self, instance: Instance, device: BlockDevice, size: int, *, running: bool) -> Disk | None:
        """See the contract."""
        with storage_errors(self._settings.disk_dir):
            return self._disks(instance).grow(device, size, running=running)

    def grow_served_disk(self, instance: Instance, device: BlockDevice, size: int) -> None:
        """See the contract."""
        with storage_errors(self._settings.disk_dir):
            self._disks(instance).grow_served(device, size)

    def find_served_disks(self, instance: Instance) -> ServedDisks | None:
        """See the contract."""
        return self._disks(instance).find_served()

    def boot_files(self, instance: Instance) -> BootFiles | None:
        """The cached kernel and ramdisk.

        :raises StorageError: one of them is missing.
        """
        boot = instance.direct_boot
        if boot is None:
            return None
        return BootFiles(
            kernel=self._images.base(instance.uuid, "kernel", boot.kernel, "kernel"),
            ramdisk=self._images.base(instance.uuid, "ramdisk", boot.ramdisk, "ramdisk") if boot.ramdisk else None,
            command_line=boot.command_line,
        )

    def delete(self, instance_uuid: str) -> None:
        """Remove every disk of the instance, all at once for who looks.

        :raises InvalidMessage: not a uuid; nothing was touched.
        :raises StorageError: the file system refuses.
        """
        directory = self._directory(instance_uuid)
        doomed = directory.with_name(_DELETING + instance_uuid)
        with storage_errors(directory):
            self._empty(instance_uuid, doomed)  # of a deletion that a crash cut short
            with suppress(FileNotFoundError):
                directory.rename(doomed)
            self._empty(instance_uuid, doomed)
            self._images.release(instance_uuid)

    def _link_boot_files(self, instance: Instance) -> None:
        if (boot := instance.direct_boot) is not None:
            self._images.link(instance.uuid, "kernel", boot.kernel, "kernel")
            if boot.ramdisk is not None:
                self._images.link(instance.uuid, "ramdisk", boot.ramdisk, "ramdisk")

    def _empty(self, instance_uuid: str, doomed: Path) -> None:
        self._servers.remove(instance_uuid, CONFIG_DRIVE)
        for place in self._places(instance_uuid, doomed):
            self._servers.remove(instance_uuid, place.name)
            for kind in self._kinds:
                kind.delete(place)
        remove_tree(doomed)

    def inspect(self) -> set[str]:
        """The uuids of all instances that have disks here."""
        return {name for name in self._names() if re.fullmatch(UUID_PATTERN, name)} | self._rbd.inspect()

    def foreign(self) -> set[str]:
        """See the contract."""
        strange = [self._settings.disk_dir / name for name in self._names() if not re.fullmatch(_OURS, name)]
        with storage_errors(self._settings.image_dir):
            return {f"file {path}" for path in (*strange, *self._images.foreign())}

    def _names(self) -> list[str]:
        with storage_errors(self._settings.disk_dir):
            return [entry.name for entry in self._settings.disk_dir.iterdir()]

    def close(self) -> None:
        """See the contract."""
        self._rbd.close()

    def capacity(self) -> Mapping[str, Mapping[str, int]]:
        """See the contract."""
        with storage_errors(self._settings.disk_dir):
            local = {"qcow2": local_usage(self._settings.disk_dir), "images": self._images.usage()}
        return {**local, **self._rbd.capacity()}

    def list_images(self) -> list[CachedImage]:
        """See the contract."""
        with storage_errors(self._settings.image_dir):
            return self._images.describe()

    def prune_images(self) -> list[CachedImage]:
        """See the contract."""
        with storage_errors(self._settings.image_dir):
            return self._images.prune()

    def _disks(self, instance: Instance) -> InstanceDisks:
        return InstanceDisks(self._directory(instance.uuid), instance, self._kind_of, self._settings, self._servers)

    def _kind_of(self, device: BlockDevice) -> DiskKind:
        if isinstance(device.connection_info, FileConnection):
            return self._file_volumes
        if isinstance(device.connection_info, RbdConnection):
            return self._rbd
        in_ceph = device.image is not None and device.image.url.startswith("rbd:")
        backend = device.backend or ("rbd" if in_ceph else self._settings.default_backend)
        return self._rbd if backend == "rbd" else self._qcow2

    def _shared_kind_of(self, device: BlockDevice) -> SharedKind | None:
        kind = self._kind_of(device)
        return next((one for one in (self._file_volumes, self._rbd) if one is kind), None)

    @property
    def _kinds(self) -> list[DiskKind]:
        return [self._qcow2, self._file_volumes, self._rbd]

    def _place(self, instance_uuid: str, device: BlockDevice) -> Place:
        return self._place_of(instance_uuid, str(device.device_name))

    def _place_of(self, instance_uuid: str, name: str) -> Place:
        return Place(instance_uuid=instance_uuid, directory=self._directory(instance_uuid), name=name)

    def _places(self, instance_uuid: str, directory: Path) -> list[Place]:
        """Of all disks that there is anything of in the directory, a file or a note; or that are only served."""
        names = {entry.name.partition(".")[0] for entry in directory.glob("disk*")}
        names |= {name for name in self._servers.disks(instance_uuid) if name.startswith("disk")}
        return [Place(instance_uuid=instance_uuid, directory=directory, name=name) for name in sorted(names)]

    def _directory(self, instance_uuid: str) -> Path:
        if not re.fullmatch(UUID_PATTERN, instance_uuid):  # it could be a path to somewhere else
            raise InvalidMessage("instance_uuid", instance_uuid, "is not a uuid")
        return self._settings.disk_dir / instance_uuid
