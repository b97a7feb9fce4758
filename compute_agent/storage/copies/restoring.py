"""An instance's disks, put back to what they were when a backup was made.

Of a local file; `compute_agent.storage.rbd.restorations` does the same with images in Ceph::

    disk0.restored.part   being made
    disk0.restored        complete
    disk0.former          what was there before, until the end
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import publish
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.target import CopyTarget
from compute_agent.storage.files import require_space, write_complete
from compute_agent.storage.qcow2.copying import CopyingQemuImg, Medium
from compute_agent.storage.rbd.restorations import Restorations

_RESTORED, _FORMER = ".restored", ".former"


class Restoring:
    """The other half of the `compute_agent.storage.copies.contract.CopyStore`; only of disks of an instance's own."""

    def __init__(
        self, disks: CopiedDisks, in_ceph: Restorations, qemu_img: CopyingQemuImg, reserved_space: int
    ) -> None:
        self._disks = disks
        self._in_ceph = in_ceph
        self._qemu_img = qemu_img
        self._reserved_space = reserved_space

    def prepare(self, instance: Instance, backup: Backup, target: CopyTarget, progress: Progress) -> None:
        """Make the disks anew, beside those that are there, from where the backup is."""
        devices = [self._device(instance, disk) for disk in backup.disks]
        for number, (disk, device) in enumerate(zip(backup.disks, devices, strict=True)):
            with target.reading(instance.uuid, backup, disk.name) as source:
                self._restore(instance, device, disk, source)
            progress((number + 1) * 100 // len(devices))

    def _restore(self, instance: Instance, device: BlockDevice, disk: DiskBackup, source: Medium) -> None:
        present = self._disks.file(instance, device)
        if present is None:
            with self._in_ceph.making(self._disks.place(instance, device)) as image:
                self._qemu_img.convert(source, image, target_is_zero=True)
            return
        require_space(present.path.parent, disk.size, self._reserved_space)
        size = self._disks.size(instance, device)
        write_complete(present.path.with_suffix(_RESTORED), partial(self._make, source, present, size))

    def _device(self, instance: Instance, disk: DiskBackup) -> BlockDevice:
        """The disk that is to be replaced."""
        device = find_device(instance, disk.name)
        if device is None or device.source_type == "volume":
            raise InvalidMessage("backup_id", disk.name, "the instance has no such disk of its own")
        size = self._disks.size(instance, device)
        if size < disk.virtual_size:
            reason = f"the backup has {disk.virtual_size} bytes, the disk only {size}"
            raise InvalidMessage("backup_id", disk.name, reason)
        return device

    def _make(self, source: Medium, present: FileSource, size: int, part: Path) -> None:
        """It stands on the same image as before, because the guest's process is told so, but shows nothing of it."""
        if present.backing is None:
            self._qemu_img.create_empty(part, size)
        else:
            self._qemu_img.create_overlay(part, (present.backing.path, present.backing.format), size)
        target = FileSource(path=part, format="qcow2")
        self._qemu_img.convert(source, target, target_is_zero=present.backing is None)

    def exchange(self, instance: Instance, backup: Backup) -> None:
        """One rename takes a disk away, one brings the other; after a crash between them the next time goes on."""
        for disk in backup.disks:
            place = self._disks.place_of(instance, disk.name)
            self._in_ceph.exchange(place)
            path = place.directory / f"{disk.name}.qcow2"
            restored, former = path.with_suffix(_RESTORED), path.with_suffix(_FORMER)
            if restored.exists():
                if not former.exists():
                    publish(path, former)
                publish(restored, path)

    def exchange_back(self, instance: Instance) -> None:
        """What was there before is there again."""
        for device in instance.block_devices:
            place = self._disks.place(instance, device)
            self._in_ceph.exchange_back(place)
            former = place.directory / f"{place.name}{_FORMER}"
            if former.exists():
                publish(former, former.with_suffix(".qcow2"))

    def finish(self, instance: Instance) -> None:
        """Only the disks stay."""
        for device in instance.block_devices:
            place = self._disks.place(instance, device)
            self._in_ceph.finish(place)
            for suffix in (_RESTORED, f"{_RESTORED}.part", _FORMER):
                (place.directory / f"{place.name}{suffix}").unlink(missing_ok=True)
