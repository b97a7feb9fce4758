"""Layers of disks in files of this node."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import msgspec

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import part_of, publish, sync
from compute_agent.instance.block_device import MOST_LAYERS, BlockDevice
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.files import require_space, storage_errors, write_complete
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.layers.chain import layer_path
from compute_agent.storage.layers.qemu_img import LayeringQemuImg
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import DiskKind, Place

_OVERHEAD = 1024 * 1024
"""Bytes: more than the tables of a new qcow2 take."""


class FileLayers:
    """The `compute_agent.storage.layers.contract.LayerStore`; called from many threads."""

    def __init__(self, settings: StorageSettings, kind_of: Callable[[BlockDevice], DiskKind]) -> None:
        self._disk_dir = settings.disk_dir
        self._kind_of = kind_of
        self._reserved_space = settings.reserved_space
        self._qemu_img = LayeringQemuImg(settings.qemu_img, settings.copy_timeout)

    def check(self, instance: Instance, device: BlockDevice) -> None:
        """See the contract."""
        volume = device.connection_info.data if device.connection_info else None
        if self._kind_of(device).file(self._place(instance, device), device) is None:
            reason = "is in Ceph: take an RBD snapshot of it"
        elif device.encryption is not None:
            reason = "is encrypted: a layer would hold in the clear what is written to it"
        elif volume is not None and volume.access_mode == "ro":
            reason = "is read-only: it stays as it is without a snapshot"
        elif len(device.layers) >= MOST_LAYERS:
            reason = f"has {MOST_LAYERS} snapshots, as many as it can have: delete one first"
        else:
            return
        raise InvalidMessage("disk", device.device_name, reason)

    def make(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """See the contract."""
        with self._errors():
            path = self._path(instance, device, layer)
            if not path.exists():
                below = self._connect(instance, device)
                write_complete(path, partial(self._make, below, virtual_size(below.path, below.format)))

    def forget_marks(self, instance: Instance, device: BlockDevice) -> None:
        """See the contract."""
        source = self._file(instance, device)
        if source.format == "qcow2":
            self._qemu_img.remove_bitmaps(source.path, self._qemu_img.bitmaps(source.path))

    def commit(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """See the contract."""
        with self._errors():
            above, source = None, self._connect(instance, device)
            while source.layer != layer:
                assert source.backing is not None
                above, source = source, source.backing
            assert source.backing is not None
            self._qemu_img.commit(source)
            sync(source.backing.path)
            if above is not None:
                self._qemu_img.rebase(above.path, source.backing)

    def empty(self, instance: Instance, device: BlockDevice) -> None:
        """See the contract."""
        with self._errors():
            source = self._connect(instance, device)
            assert source.backing is not None
            part = part_of(source.path)
            self._make(source.backing, virtual_size(source.path, "qcow2"), part)
            publish(part, source.path)

    def delete(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """See the contract."""
        with self._errors():
            path = self._path(instance, device, layer)
            path.unlink(missing_ok=True)
            part_of(path).unlink(missing_ok=True)

    def fold(self, instance: Instance, device: BlockDevice) -> None:
        """See the contract; the newest first, and one that is gone was folded before."""
        for count in range(len(device.layers), 0, -1):
            present, newest = msgspec.structs.replace(device, layers=device.layers[:count]), device.layers[count - 1]
            if self._path(instance, device, newest).exists():
                self.commit(instance, present, newest)
                self.delete(instance, present, newest)

    def _make(self, below: FileSource, size: int, path: Path) -> None:
        require_space(path.parent, _OVERHEAD, self._reserved_space)
        self._qemu_img.create_overlay(path, (below.path, below.format), size)

    def _path(self, instance: Instance, device: BlockDevice, layer: str) -> Path:
        """Found from the disk's first file: others may be missing."""
        return layer_path(self._file(instance, msgspec.structs.replace(device, layers=())).path, layer)

    def _file(self, instance: Instance, device: BlockDevice) -> FileSource:
        source = self._kind_of(device).file(self._place(instance, device), device)
        assert source is not None
        return source

    def _connect(self, instance: Instance, device: BlockDevice) -> FileSource:
        """To be changed: nobody else may write to it, on any host."""
        source = self._kind_of(device).connect(self._place(instance, device), device)
        assert isinstance(source, FileSource)
        return source

    def _place(self, instance: Instance, device: BlockDevice) -> Place:
        directory = self._disk_dir / instance.uuid
        return Place(instance_uuid=instance.uuid, directory=directory, name=str(device.device_name))

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(self._disk_dir)
