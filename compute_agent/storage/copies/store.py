"""Copies of disks that this node has made: in files, in Ceph, or elsewhere; what is known of them is in files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from compute_agent.errors import CopyNotFound, DiskInUse, InvalidMessage
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.direct import DirectSnapshots
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.file_target import FileTarget
from compute_agent.storage.copies.making import CopyMaker
from compute_agent.storage.copies.nbd_target import NbdTarget
from compute_agent.storage.copies.places import DESCRIPTION, Places, read_description
from compute_agent.storage.copies.rbd_target import RbdTarget
from compute_agent.storage.copies.restoring import Restoring
from compute_agent.storage.copies.target import CopyTarget
from compute_agent.storage.files import prepare_directory, remove_tree, storage_errors
from compute_agent.storage.qcow2.copying import CopyingQemuImg
from compute_agent.storage.rbd.disks import RbdDisks
from compute_agent.storage.settings import StorageSettings

_DELETING = ".deleting-"


class NodeCopies:
    """The `compute_agent.storage.copies.contract.CopyStore`; called from many threads.

    :raises InvalidConfiguration: a directory cannot be used.
    :raises StorageError: what a crash left behind cannot be removed.
    """

    def __init__(self, settings: StorageSettings, disks: CopiedDisks, rbd: RbdDisks) -> None:
        prepare_directory(settings.snapshot_dir, "storage.snapshot_dir")
        prepare_directory(settings.backup_dir, "storage.backup_dir")
        self._places = Places(settings)
        self._images = rbd.spare_images
        qemu_img = CopyingQemuImg(settings.qemu_img, settings.copy_timeout)
        self._targets: dict[str, CopyTarget] = {
            "file": FileTarget(self._places, qemu_img, settings.reserved_space, settings.copy_compression),
            "rbd": RbdTarget(self._places, self._images),
            "nbd": NbdTarget(self._places, replace(qemu_img, timeout=settings.connect_timeout)),
        }
        makers = {kind: CopyMaker(self._places, qemu_img, disks, target) for kind, target in self._targets.items()}
        self._makers = makers
        self._direct = DirectSnapshots(self._places, disks, self._images)
        self._restoring = Restoring(disks, rbd.restorations, qemu_img, settings.reserved_space)
        with self._errors():
            for leftover in settings.backup_dir.glob(f"{_DELETING}*"):
                self._remove(leftover)

    def prepare(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._refuse_existing(order)
            self._discard(self._places.unfinished(order), order.instance.uuid)
            self._way(order).prepare(order)

    def open(self, order: CopyOrder, disk: str) -> FileSource | NbdSource:
        """See the contract."""
        with self._errors():
            return self._makers[_kind(order.target)].open(order, disk)

    def has_moment(self, order: CopyOrder) -> bool:
        """See the contract."""
        return self._direct.has_moment(order)

    def take_moment(self, order: CopyOrder) -> None:
        """See the contract."""
        self._direct.take_moment(order)

    def note_frozen(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._places.frozen_note(order).touch()

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            self._way(order).copy(order, progress)

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            if self._places.unfinished(order).exists():
                self._way(order).keep(order, progress)

    def forget_older_marks(self, order: CopyOrder) -> None:
        """See the contract."""
        self._makers[_kind(order.target)].forget_older_marks(order)

    def forget_mark(self, order: CopyOrder) -> None:
        """See the contract."""
        self._makers[_kind(order.target)].forget_mark(order)

    def take_back(self, order: CopyOrder) -> None:
        """See the contract."""
        if order.kind == "snapshot":
            self.delete_snapshot(order.copy_id)
        else:
            self.delete_backup(order.copy_id)

    def discard(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._discard(self._places.unfinished(order), order.instance.uuid)

    def tidy(self, is_at_work: Callable[[str], bool]) -> None:
        """See the contract."""
        with self._errors():
            for instance_uuid, part in self._places.all_unfinished():
                if not is_at_work(instance_uuid):
                    self._discard(part, instance_uuid)

    def get_snapshot(self, image_id: str) -> Snapshot:
        """See the contract."""
        found = self._find_snapshot(image_id)
        if found is None:
            raise CopyNotFound("image_id", image_id)
        return found

    def delete_snapshot(self, image_id: str) -> None:
        """See the contract."""
        with self._errors():
            found = self._find_snapshot(image_id)
            if found is not None and found.is_in_ceph:
                self._direct.delete(image_id)
                return
            self._places.snapshot(image_id).unlink(missing_ok=True)
            self._places.snapshot_description(image_id).unlink(missing_ok=True)

    def get_backup(self, backup_id: str) -> Backup:
        """See the contract."""
        found = read_description(self._places.backup(backup_id) / DESCRIPTION, Backup)
        if found is None:
            raise CopyNotFound("backup_id", backup_id)
        return found

    def list_backups(self) -> list[Backup]:
        """See the contract."""
        with self._errors():
            paths = [entry / DESCRIPTION for entry in self._places.all_backups()]
            found = [read_description(path, Backup) for path in paths]
        return sorted((one for one in found if one is not None), key=lambda one: one.created_at)

    def delete_backup(self, backup_id: str) -> None:
        """See the contract."""
        for other in self.list_backups():
            if other.parent == backup_id and not other.is_on_nbd_server:
                raise DiskInUse(f"backup {backup_id} cannot be deleted: backup {other.backup_id} stands on it")
        directory = self._places.backup(backup_id)
        doomed = directory.with_name(_DELETING + backup_id)
        with self._errors():
            self._remove(doomed)  # of a deletion that failed
            if directory.exists():
                directory.rename(doomed)
            self._remove(doomed)

    def prepare_restore(self, instance: Instance, backup_id: str, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            backup = self.get_backup(backup_id)
            self._restoring.prepare(instance, backup, self._targets[_kind(backup.target)], progress)

    def exchange(self, instance: Instance, backup_id: str) -> None:
        """See the contract."""
        with self._errors():
            self._restoring.exchange(instance, self.get_backup(backup_id))

    def exchange_back(self, instance: Instance) -> None:
        """See the contract."""
        with self._errors():
            self._restoring.exchange_back(instance)

    def finish_restore(self, instance: Instance) -> None:
        """See the contract."""
        with self._errors():
            self._restoring.finish(instance)

    def _way(self, order: CopyOrder) -> DirectSnapshots | CopyMaker:
        return self._direct if order.is_direct else self._makers[_kind(order.target)]

    def _refuse_existing(self, order: CopyOrder) -> None:
        if order.kind == "snapshot" and self._find_snapshot(order.copy_id) is not None:
            raise InvalidMessage("image_id", order.copy_id, "there is such a snapshot already")
        if order.kind == "backup" and self._places.backup(order.copy_id).exists():
            raise InvalidMessage("backup_id", order.copy_id, "there is such a backup already")

    def _find_snapshot(self, image_id: str) -> Snapshot | None:
        found = read_description(self._places.snapshot_description(image_id), Snapshot)
        if found is None or found.is_in_ceph or self._places.snapshot(image_id).exists():
            return found
        return None  # of one that was about to be made

    def _discard(self, directory: Path, instance_uuid: str) -> None:
        for image in self._images.noted(directory):
            self._images.stop_serving(instance_uuid, image)
        self._remove(directory)

    def _remove(self, directory: Path) -> None:
        self._images.remove(directory)
        remove_tree(directory)

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(self._places.backups)


def _kind(target: str | None) -> str:
    """The key of what copies to there."""
    return "file" if target is None else target.partition(":")[0]
