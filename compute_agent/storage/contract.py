"""What the storage room offers to the agent. Each verb may be repeated after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from compute_agent.instance.devices import BootFiles, Disk
from compute_agent.instance.model import Instance

Progress = Callable[[int], None]
"""Called now and then with the percentage that is done."""


class DiskDriver(Protocol):
    """Makes, finds and removes the local disks of an instance."""

    def check(self, instance: Instance) -> None:
        """Refuse early what the message alone shows to be impossible; changes nothing.

        :raises InvalidMessage: disks or ports that contradict themselves, nothing to boot from, bad user data.
        """

    def create(self, instance: Instance, progress: Progress) -> None:
        """Fetch the images, make all disks and the config drive. Disks that exist stay as they are.

        :raises InvalidImage: an image is not what it was declared to be.
        :raises InsufficientResources: not enough space; nothing of the instance is left.
        :raises StorageError: an image cannot be fetched; nothing of the instance is left.
        """

    def connect(self, instance: Instance) -> Sequence[Disk]:
        """The instance's disks, ready to be opened, in order; the config drive last.

        :raises StorageError: a disk is missing.
        """

    def boot_files(self, instance: Instance) -> BootFiles | None:
        """The kernel to start directly, where the instance asks for one."""

    def delete(self, instance_uuid: str) -> None:
        """Remove every disk of the instance. Nothing happens where there is none."""

    def inspect(self) -> set[str]:
        """The uuids of all instances that have disks here."""

    def capacity(self) -> Mapping[str, int]:
        """Local space in bytes: ``total``, ``free`` and what the image cache holds."""
