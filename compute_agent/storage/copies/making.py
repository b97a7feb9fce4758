"""Copies from their order to their name."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import publish, sync
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.copies import Backup, DiskBackup, Snapshot
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.places import DESCRIPTION, Places, write_description
from compute_agent.storage.files import remove_tree, require_space
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.copying import CopyingQemuImg

FileOf = Callable[[Instance, BlockDevice], FileSource]
"""The local file of a disk. Raises InvalidMessage where it has none."""

_ALGORITHM = "sha256"
_CHUNK = 4 * 1024 * 1024
_BLOCK = 512
"""Bytes that `st_blocks` counts in."""


class CopyMaker:
    """Half of the `compute_agent.storage.copies.contract.CopyStore`."""

    def __init__(self, places: Places, qemu_img: CopyingQemuImg, file_of: FileOf, reserved_space: int) -> None:
        self._places = places
        self._qemu_img = qemu_img
        self._file_of = file_of
        self._reserved_space = reserved_space

    def prepare(self, order: CopyOrder) -> None:
        """See the contract."""
        if self._places.complete(order).exists():
            raise InvalidMessage(_id_field(order), order.copy_id, f"there is such a {order.kind} already")
        sources = [self._source(order, device) for device in order.devices]
        parts = [self._parts_parent(order, device) for device in order.devices]
        directory = self._places.unfinished(order)
        remove_tree(directory)
        require_space(directory.parent, _needed(order, sources), self._reserved_space)
        directory.mkdir(mode=0o700)
        for device, source, parent in zip(order.devices, sources, parts, strict=True):
            size = virtual_size(source.path, source.format)
            target = self._places.target(order, str(device.device_name))
            if parent is None:
                self._qemu_img.create_empty(target, size)
            else:
                self._qemu_img.create_overlay(target, (parent, "qcow2"), size)
            target.chmod(0o600)

    def target(self, order: CopyOrder, disk: str) -> FileSource:
        """See the contract."""
        return FileSource(path=self._places.target(order, disk), format="qcow2")

    def note_frozen(self, order: CopyOrder) -> None:
        """See the contract."""
        self._places.frozen_note(order).touch()

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        for number, device in enumerate(order.devices):
            source = self._source(order, device)
            self._convert(source, self._places.target(order, str(device.device_name)))
            if order.kind == "backup" and source.format == "qcow2":
                self._qemu_img.add_bitmap(source.path, order.copy_id)
            progress((number + 1) * 100 // len(order.devices))
        self.note_frozen(order)  # nobody has anything mounted

    def _convert(self, source: FileSource, target: Path) -> None:
        self._qemu_img.convert(source.path, source.format, target, target_is_zero=True)

    def forget_older_marks(self, order: CopyOrder) -> None:
        """See the contract."""
        for path in self._marked(order):
            self._qemu_img.remove_bitmaps(path, self._qemu_img.bitmaps(path) - {order.copy_id})

    def forget_mark(self, order: CopyOrder) -> None:
        """See the contract."""
        for path in self._marked(order):
            self._qemu_img.remove_bitmaps(path, self._qemu_img.bitmaps(path) & {order.copy_id})

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        if self._places.unfinished(order).exists():
            if order.kind == "snapshot":
                self._keep_snapshot(order, progress)
            else:
                self._keep_backup(order)

    def _keep_snapshot(self, order: CopyOrder, progress: Progress) -> None:
        path = self._places.complete(order)
        target = self._places.target(order, str(order.devices[0].device_name))
        if target.exists():
            snapshot = Snapshot(
                image_id=order.copy_id,
                instance_uuid=order.instance.uuid,
                url=f"file://{path}",
                checksum=_checksum(target, progress),
                size=target.stat().st_size,
                virtual_size=virtual_size(target, "qcow2"),
                created_at=time.time(),
                frozen=self._places.frozen_note(order).exists(),
            )
            write_description(self._places.snapshot_description(order.copy_id), snapshot)
            publish(target, path)
        remove_tree(self._places.unfinished(order))

    def _keep_backup(self, order: CopyOrder) -> None:
        directory, note = self._places.unfinished(order), self._places.frozen_note(order)
        backup = Backup(
            backup_id=order.copy_id,
            instance_uuid=order.instance.uuid,
            parent=order.parent,
            created_at=time.time(),
            frozen=note.exists(),
            disks=[self._describe(order, str(device.device_name)) for device in order.devices],
        )
        for disk in backup.disks:
            sync(self._places.target(order, disk.name))
        if not (directory / DESCRIPTION).exists():  # of an agent that died in this step
            write_description(directory / DESCRIPTION, backup)
        note.unlink(missing_ok=True)
        publish(directory, self._places.complete(order))

    def _describe(self, order: CopyOrder, disk: str) -> DiskBackup:
        path = self._places.target(order, disk)
        return DiskBackup(name=disk, size=path.stat().st_size, virtual_size=virtual_size(path, "qcow2"))

    def _source(self, order: CopyOrder, device: BlockDevice) -> FileSource:
        if device.encryption is not None:
            reason = f"is encrypted: a {order.kind} would hold its content in the clear"
            raise InvalidMessage("disks", device.device_name, reason)
        return self._file_of(order.instance, device)

    def _marked(self, order: CopyOrder) -> list[Path]:
        sources = [self._source(order, device) for device in order.devices]
        return [source.path for source in sources if source.format == "qcow2"]

    def _parts_parent(self, order: CopyOrder, device: BlockDevice) -> Path | None:
        """As it is named in the file that stands on it: from its directory, so that both can be moved together."""
        if order.parent is None:
            return None
        name = f"{device.device_name}.qcow2"
        if not (self._places.backup(order.parent) / name).exists():
            raise InvalidMessage("parent", order.parent, f"there is no such backup of {device.device_name}")
        return Path("..") / order.parent / name


def _needed(order: CopyOrder, sources: list[FileSource]) -> int:
    """Bytes: what the disks take now. How much of it an incremental copy has is not known before."""
    return 0 if order.parent else sum(_allocated(source) for source in sources)


def _allocated(source: FileSource) -> int:
    below = _allocated(source.backing) if source.backing else 0
    return source.path.stat().st_blocks * _BLOCK + below


def _checksum(path: Path, progress: Progress) -> str:
    digest, size, done = hashlib.new(_ALGORITHM), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done * 100 // size)
    return f"{_ALGORITHM}:{digest.hexdigest()}"


def _id_field(order: CopyOrder) -> str:
    return "image_id" if order.kind == "snapshot" else "backup_id"
