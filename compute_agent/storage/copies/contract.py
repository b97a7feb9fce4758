"""What the storage room offers about copies of disks, a part of `DiskDriver`. Each verb may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrder:
    """A copy that is to be made."""

    kind: Literal["snapshot", "backup"]
    copy_id: str
    instance: Instance
    devices: Sequence[BlockDevice]
    """The disks: of a snapshot, one."""
    parent: str | None = None
    """The backup that this one stands on."""
    target: str | None = None
    """Where to, if not to files of this node: ``rbd``, or of a backup ``nbd://HOST:PORT/PREFIX``."""

    @property
    def is_direct(self) -> bool:
        """A snapshot that the cluster makes itself of a disk in it."""
        return self.kind == "snapshot" and self.target == "rbd"


class CopyStore(Protocol):
    """Makes copies of disks, keeps them, and puts them back."""

    def prepare(self, order: CopyOrder) -> None:
        """Make the files that the disks are to be copied to; those of an earlier attempt go.

        :raises InvalidMessage: a disk cannot be copied, the copy is there already, or its parent is not.
        :raises InsufficientResources: there is no room for them.
        """

    def open(self, order: CopyOrder, disk: str) -> FileSource | NbdSource:
        """What a disk is to be copied to by whoever has it open; the caller closes a connection.

        :raises StorageError: it cannot be reached.
        """

    def has_moment(self, order: CopyOrder) -> bool:
        """Of a direct snapshot: its moment has been taken."""

    def take_moment(self, order: CopyOrder) -> None:
        """The disk of a direct snapshot is held fast as it is now, whoever has it open.

        :raises StorageError, DeadlineExceeded: it is not, as far as is known.
        """

    def note_frozen(self, order: CopyOrder) -> None:
        """The guest's file systems were consistent at the copy's moment."""

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        """Copy the disks of an instance that does not run; from now on a backup's disks remember what is written.

        A direct snapshot is made of its moment, whether or not the instance runs.
        """

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        """All is copied: the copy gets its name."""

    def forget_older_marks(self, order: CopyOrder) -> None:
        """Disks of an instance that does not run remember only what is written after this backup."""

    def forget_mark(self, order: CopyOrder) -> None:
        """They do not remember what is written after this backup, which has failed."""

    def take_back(self, order: CopyOrder) -> None:
        """The copy has its name no more. Nothing happens where it has not got it."""

    def discard(self, order: CopyOrder) -> None:
        """Remove what was made of a copy that has not got its name."""

    def tidy(self, is_at_work: Callable[[str], bool]) -> None:
        """Remove what was begun about instances (named by uuid) of which `is_at_work` says that nothing goes on."""

    def get_snapshot(self, image_id: str) -> Snapshot:
        """:raises CopyNotFound: there is none."""

    def delete_snapshot(self, image_id: str) -> None:
        """Remove the image. Disks that were made of it stay. Nothing happens where there is none.

        :raises DiskInUse: it is in Ceph, and disks stand on it; says which.
        """

    def get_backup(self, backup_id: str) -> Backup:
        """:raises CopyNotFound: there is none."""

    def list_backups(self) -> list[Backup]:
        """All of them, oldest first."""

    def delete_backup(self, backup_id: str) -> None:
        """Remove it, all at once for who looks. Nothing happens where there is none.

        :raises DiskInUse: another backup stands on it; says which.
        """

    def prepare_restore(self, instance: Instance, backup_id: str, progress: Progress) -> None:
        """Make the disks of a stopped instance anew, as they were, beside those that it has.

        :raises CopyNotFound: there is no such backup.
        :raises InvalidMessage: one of its disks does not fit the instance; nothing is left.
        :raises InsufficientResources: there is no room for them.
        """

    def exchange(self, instance: Instance, backup_id: str) -> None:
        """The restored disks take the places of those that the instance had, which are kept."""

    def exchange_back(self, instance: Instance) -> None:
        """The instance has the disks that it had."""

    def finish_restore(self, instance: Instance) -> None:
        """Whatever restoring has left beside the instance's disks goes."""
