"""Copies of disks in files of this node."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from compute_agent.errors import CopyNotFound, DiskInUse
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.copies.file_target import FileTarget
from compute_agent.storage.copies.making import CopyMaker
from compute_agent.storage.copies.places import DESCRIPTION, Places, read_description
from compute_agent.storage.copies.restoring import Restoring
from compute_agent.storage.files import prepare_directory, remove_tree, storage_errors
from compute_agent.storage.qcow2.copying import CopyingQemuImg
from compute_agent.storage.rbd.restorations import Restorations
from compute_agent.storage.settings import StorageSettings

_DELETING = ".deleting-"


class FileCopies:
    """The `compute_agent.storage.copies.contract.CopyStore`; called from many threads.

    :raises InvalidConfiguration: a directory cannot be used.
    :raises StorageError: what a crash left behind cannot be removed.
    """

    def __init__(self, settings: StorageSettings, disks: CopiedDisks, in_ceph: Restorations) -> None:
        prepare_directory(settings.snapshot_dir, "storage.snapshot_dir")
        prepare_directory(settings.backup_dir, "storage.backup_dir")
        self._places = Places(settings)
        qemu_img = CopyingQemuImg(settings.qemu_img, settings.copy_timeout)
        self._target = FileTarget(self._places, qemu_img, settings.reserved_space)
        self._maker = CopyMaker(self._places, qemu_img, disks, self._target)
        self._restoring = Restoring(disks, in_ceph, qemu_img, settings.reserved_space)
        with self._errors():
            for leftover in settings.backup_dir.glob(f"{_DELETING}*"):
                remove_tree(leftover)

    def prepare(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._maker.prepare(order)

    def open(self, order: CopyOrder, disk: str) -> FileSource | NbdSource:
        """See the contract."""
        with self._errors():
            return self._maker.open(order, disk)

    def note_frozen(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._maker.note_frozen(order)

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            self._maker.copy(order, progress)

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            self._maker.keep(order, progress)

    def forget_older_marks(self, order: CopyOrder) -> None:
        """See the contract."""
        self._maker.forget_older_marks(order)

    def forget_mark(self, order: CopyOrder) -> None:
        """See the contract."""
        self._maker.forget_mark(order)

    def take_back(self, order: CopyOrder) -> None:
        """See the contract."""
        if order.kind == "snapshot":
            self.delete_snapshot(order.copy_id)
        else:
            self.delete_backup(order.copy_id)

    def discard(self, order: CopyOrder) -> None:
        """See the contract."""
        with self._errors():
            self._maker.discard(order)

    def tidy(self, is_at_work: Callable[[str], bool]) -> None:
        """See the contract."""
        with self._errors():
            for instance_uuid, part in self._places.all_unfinished():
                if not is_at_work(instance_uuid):
                    remove_tree(part)

    def get_snapshot(self, image_id: str) -> Snapshot:
        """See the contract."""
        found = None
        if self._places.snapshot(image_id).exists():
            found = read_description(self._places.snapshot_description(image_id), Snapshot)
        if found is None:
            raise CopyNotFound("image_id", image_id)
        return found

    def delete_snapshot(self, image_id: str) -> None:
        """See the contract."""
        with self._errors():
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
            if other.parent == backup_id:
                raise DiskInUse(f"backup {backup_id} cannot be deleted: backup {other.backup_id} stands on it")
        directory = self._places.backup(backup_id)
        doomed = directory.with_name(_DELETING + backup_id)
        with self._errors():
            remove_tree(doomed)  # of a deletion that failed
            if directory.exists():
                directory.rename(doomed)
            remove_tree(doomed)

    def prepare_restore(self, instance: Instance, backup_id: str, progress: Progress) -> None:
        """See the contract."""
        with self._errors():
            self._restoring.prepare(instance, self.get_backup(backup_id), self._target, progress)

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

    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(self._places.backups)
