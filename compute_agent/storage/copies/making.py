"""Copies from their order to their name."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import publish
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.places import DESCRIPTION, Places, write_description
from compute_agent.storage.copies.target import CopyTarget
from compute_agent.storage.files import BLOCK, remove_tree
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.copying import CopyingQemuImg, Medium

_ALGORITHM = "sha256"
_CHUNK = 4 * 1024 * 1024


class CopyMaker:
    """Half of the `compute_agent.storage.copies.contract.CopyStore`, for one kind of target."""

    def __init__(self, places: Places, qemu_img: CopyingQemuImg, disks: CopiedDisks, target: CopyTarget) -> None:
        self._places = places
        self._qemu_img = qemu_img
        self._disks = disks
        self._target = target

    def prepare(self, order: CopyOrder) -> None:
        """See the contract."""
        sources = [self._source(order, device) for device in order.devices]
        sizes = {str(device.device_name): self._disks.size(order.instance, device) for device in order.devices}
        self._target.check(order, sizes, sum(_allocated(source) for source in sources if source is not None))
        self._places.make_directory(order)
        self._target.make(order, sizes)

    def open(self, order: CopyOrder, disk: str) -> Medium:
        """See the contract."""
        return self._target.open(order, disk)

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        for number, device in enumerate(order.devices):
            self._copy(order, device)
            if order.kind == "backup" and (path := self._remembering(order, device)):
                self._qemu_img.add_bitmap(path, order.copy_id)
            progress((number + 1) * 100 // len(order.devices))
        self._places.frozen_note(order).touch()  # nobody has anything mounted

    def _copy(self, order: CopyOrder, device: BlockDevice) -> None:
        target = self._target.open(order, str(device.device_name))
        try:
            with self._disks.reading(order.instance, device) as source:
                self._qemu_img.convert(source, target, target_is_zero=self._target.is_zero)
        finally:
            if isinstance(target, NbdSource):
                target.close()

    def forget_older_marks(self, order: CopyOrder) -> None:
        """See the contract."""
        for path in self._all_remembering(order):
            self._qemu_img.remove_bitmaps(path, self._qemu_img.bitmaps(path) - {order.copy_id})

    def forget_mark(self, order: CopyOrder) -> None:
        """See the contract."""
        for device in order.devices:
            self._disks.let_go(order.instance, device)
        for path in self._all_remembering(order):
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
            target=order.target,
            created_at=time.time(),
            frozen=note.exists(),
            disks=[self._target.complete(order, str(device.device_name)) for device in order.devices],
        )
        if not (directory / DESCRIPTION).exists():  # of an agent that died in this step
            write_description(directory / DESCRIPTION, backup)
        note.unlink(missing_ok=True)
        publish(directory, self._places.complete(order))

    def _source(self, order: CopyOrder, device: BlockDevice) -> FileSource | None:
        """Its local file, if it has one.

        :raises InvalidMessage: it may not be copied.
        """
        source = self._disks.file(order.instance, device)
        reads_in_the_clear = source is not None and source.format == "qcow2"
        if device.encryption is not None and (reads_in_the_clear or order.kind == "snapshot"):
            reason = "would hold its content in the clear" if reads_in_the_clear else "is an image for everybody"
            raise InvalidMessage("disks", device.device_name, f"is encrypted: a {order.kind} {reason}")
        return source

    def _remembering(self, order: CopyOrder, device: BlockDevice) -> Path | None:
        """The file that can remember what is written to a disk, where there is one."""
        source = self._source(order, device)
        return source.path if source is not None and source.format == "qcow2" else None

    def _all_remembering(self, order: CopyOrder) -> list[Path]:
        found = (self._remembering(order, device) for device in order.devices)
        return [path for path in found if path is not None]


def _allocated(source: FileSource) -> int:
    below = _allocated(source.backing) if source.backing else 0
    return source.path.stat().st_blocks * BLOCK + below


def _checksum(path: Path, progress: Progress) -> str:
    digest, size, done = hashlib.new(_ALGORITHM), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done * 100 // size)
    return f"{_ALGORITHM}:{digest.hexdigest()}"
