"""What each kind of place that copies of disks can be in has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.qcow2.copying import Medium


class CopyTarget(Protocol):
    """Copies in one kind of place. Every verb may be repeated after a crash."""

    is_zero: bool
    """What is made for a copy without a parent reads as zeros."""

    def check(self, order: CopyOrder, sizes: Mapping[str, int], taken: int) -> None:
        """`sizes` of all disks, in bytes, and what all of them take now, as far as that is known.

        :raises InvalidMessage: of the order: it cannot be made here, or its parent is not here.
        :raises InsufficientResources: there is no room.
        """

    def make(self, order: CopyOrder, sizes: Mapping[str, int]) -> None:
        """Have something to copy each disk to, with the content of its parent, or none.

        The copy's directory is there, and empty.
        """

    def open(self, order: CopyOrder, disk: str) -> Medium:
        """What a disk is copied to; the caller closes a connection.

        :raises StorageError: it cannot be reached.
        """

    def complete(self, order: CopyOrder, disk: str) -> DiskBackup:
        """All is copied, and the guest's process has let go of it: see that it lasts."""

    def reading(self, instance_uuid: str, backup: Backup, disk: str) -> AbstractContextManager[Medium]:
        """All of a disk as it was, for its restoration in this instance.

        :raises InvalidMessage: it is not there any more.
        :raises StorageError: it cannot be reached.
        """
