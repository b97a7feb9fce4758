"""Copies in qcow2 files of this node; each that has a parent stands on it, and holds what was written since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import sync
from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.instance.devices import FileSource
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.places import Places
from compute_agent.storage.files import require_space
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.copying import CopyingQemuImg
from compute_agent.storage.settings import Compression


class FileTarget:
    """The `compute_agent.storage.copies.target.CopyTarget` of them."""

    is_zero = True

    def __init__(self, places: Places, qemu_img: CopyingQemuImg, reserved_space: int, compression: Compression) -> None:
        self._places = places
        self._qemu_img = qemu_img
        self._reserved_space = reserved_space
        self._compression = compression

    def check(self, order: CopyOrder, sizes: Mapping[str, int], taken: int) -> None:
        """The parent's files have to be there. How much of it an incremental copy has is not known before."""
        for disk in sizes:
            if order.parent is not None and not self._places.backup_file(order.parent, disk).exists():
                raise InvalidMessage("parent", order.parent, f"there is no such backup of {disk} in files of this node")
        directory = self._places.unfinished(order).parent
        require_space(directory, 0 if order.parent else taken, self._reserved_space)

    def make(self, order: CopyOrder, sizes: Mapping[str, int]) -> None:
        """A qcow2 for each."""
        for disk, size in sizes.items():
            path = self._places.target(order, disk)
            self._qemu_img.create_copy(path, size, self._parent(order, disk), self._compression)
            path.chmod(0o600)

    def open(self, order: CopyOrder, disk: str) -> FileSource:
        """The file."""
        is_compressed = self._compression != "off"
        return FileSource(path=self._places.target(order, disk), format="qcow2", compressed=is_compressed)

    def complete(self, order: CopyOrder, disk: str) -> DiskBackup:
        """It is on the disk."""
        path = self._places.target(order, disk)
        sync(path)
        return DiskBackup(name=disk, size=path.stat().st_size, virtual_size=virtual_size(path, "qcow2"))

    @contextmanager
    def reading(self, instance_uuid: str, backup: Backup, disk: str) -> Iterator[FileSource]:
        """The file."""
        yield FileSource(path=self._places.backup_file(backup.backup_id, disk), format="qcow2")

    def _parent(self, order: CopyOrder, disk: str) -> Path | None:
        """Named from the copy's own directory, so that both can be moved together."""
        if order.parent is None:
            return None
        return Path("..") / self._places.backup_file(order.parent, disk).relative_to(self._places.backups)
