"""An instance's disks, put back to what they were when a backup was made.

::

    disk0.restored.part   being made
    disk0.restored        complete
    disk0.former          what was there before, until the end
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import publish
from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.making import FileOf
from compute_agent.storage.copies.places import Places
from compute_agent.storage.files import require_space, write_complete
from compute_agent.storage.inspection import virtual_size
from compute_agent.storage.qcow2.copying import CopyingQemuImg

_RESTORED, _FORMER = ".restored", ".former"


class Restoring:
    """The other half of the `compute_agent.storage.copies.contract.CopyStore`; only of disks of an instance's own."""

    def __init__(self, places: Places, qemu_img: CopyingQemuImg, file_of: FileOf, reserved_space: int) -> None:
        self._places = places
        self._qemu_img = qemu_img
        self._file_of = file_of
        self._reserved_space = reserved_space

    def prepare(self, instance: Instance, backup: Backup, progress: Progress) -> None:
        """Make the disks anew, beside those that are there."""
        disks = [(disk, self._present(instance, disk)) for disk in backup.disks]
        for number, (disk, present) in enumerate(disks):
            require_space(present.path.parent, disk.size, self._reserved_space)
            source = self._places.backup(backup.backup_id) / f"{disk.name}.qcow2"
            write_complete(present.path.with_suffix(_RESTORED), partial(self._make, source, present))
            progress((number + 1) * 100 // len(disks))

    def _present(self, instance: Instance, disk: DiskBackup) -> FileSource:
        """The disk that is to be replaced."""
        device = find_device(instance, disk.name)
        if device is None or device.source_type == "volume":
            raise InvalidMessage("backup_id", disk.name, "the instance has no such disk of its own")
        present = self._file_of(instance, device)
        size = virtual_size(present.path, present.format)
        if size < disk.virtual_size:
            reason = f"the backup has {disk.virtual_size} bytes, the disk only {size}"
            raise InvalidMessage("backup_id", disk.name, reason)
        return present

    def _make(self, source: Path, present: FileSource, part: Path) -> None:
        """It stands on the same image as before, because the guest's process is told so, but shows nothing of it."""
        size = virtual_size(present.path, present.format)
        if present.backing is None:
            self._qemu_img.create_empty(part, size)
        else:
            self._qemu_img.create_overlay(part, (present.backing.path, present.backing.format), size)
        self._qemu_img.convert(source, "qcow2", part, target_is_zero=present.backing is None)

    def exchange(self, directory: Path, backup: Backup) -> None:
        """One rename takes a disk away, one brings the other; after a crash between them the next time goes on."""
        for disk in backup.disks:
            path = directory / f"{disk.name}.qcow2"
            restored, former = path.with_suffix(_RESTORED), path.with_suffix(_FORMER)
            if restored.exists():
                if not former.exists():
                    publish(path, former)
                publish(restored, path)

    def exchange_back(self, directory: Path) -> None:
        """What was there before is there again."""
        for former in directory.glob(f"disk*{_FORMER}"):
            publish(former, former.with_suffix(".qcow2"))

    def finish(self, directory: Path) -> None:
        """Only the disks stay."""
        for suffix in (_RESTORED, f"{_RESTORED}.part", _FORMER):
            for path in directory.glob(f"disk*{suffix}"):
                path.unlink()
