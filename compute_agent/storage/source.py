"""What each kind of disk has to offer to `compute_agent.storage.instance_disks`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.storage.contract import Progress
from compute_agent.storage.server.exports import Export


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one disk of one instance is kept, or at least remembered."""

    instance_uuid: str
    directory: Path
    """The instance's own on this node."""
    name: str
    """The disk's: ``disk0``."""


def elsewhere_mark(directory: Path) -> Path:
    """Lies in an instance's directory as long as its disks that other hosts can reach are another host's."""
    return directory / "elsewhere"


def is_elsewhere(place: Place) -> bool:
    """The disk is another host's, if that can reach it."""
    return elsewhere_mark(place.directory).exists()


def is_read_only(device: BlockDevice) -> bool:
    """A volume that its owner gives to be read."""
    return device.connection_info is not None and device.connection_info.data.access_mode == "ro"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """How a guest is to come to this host."""

    source: str
    """The host that it comes from."""
    in_use: bool
    """That host may have its disks open."""
    is_served: bool
    """So may a block server here, before the guest is this host's."""
    proof: str | None
    """What that host has left beside its volumes in files; None: nothing."""


class DiskKind(Protocol):
    """Disks of one kind. Every verb may be repeated after a crash."""

    def check(self, field: str, device: BlockDevice) -> None:
        """:raises InvalidMessage: this node has nothing for such a disk; names what is wrong in `field`."""

    def make(self, place: Place, device: BlockDevice, progress: Progress) -> None:
        """Make a disk that does not exist; a volume does. An image is in the cache.

        :raises InvalidImage: of a field of the device: its image is larger than the disk.
        :raises StorageError: it cannot be made.
        """

    def connect(self, place: Place, device: BlockDevice) -> FileSource | NbdSource:
        """What a guest opens; nobody else may write to it from now on.

        :raises DiskInUse: somebody else does; says who.
        :raises StorageError: it is missing, or cannot be reached.
        """

    def export(self, place: Place, device: BlockDevice) -> Export:
        """What a block server has to know to serve it; nobody else may write to it from now on.

        :raises DiskInUse: somebody else does; says who.
        :raises StorageError: it is missing, or cannot be reached.
        """

    def disconnect(self, place: Place) -> None:
        """Let go of a disk that no guest has open any more."""

    def file(self, place: Place, device: BlockDevice) -> FileSource | None:
        """The local file that it is, to be looked at; None: it is in Ceph.

        :raises StorageError: it is missing.
        """

    def size(self, place: Place, device: BlockDevice) -> int:
        """Bytes of what the disk is kept in: where that holds a LUKS container, with its header."""

    def check_growth(self, place: Place, device: BlockDevice, size: int) -> None:
        """See that it may have `size` bytes, as its guest sees them, if its block server makes it as large.

        :raises InvalidMessage: it is larger already, or its owner says himself how large it is.
        """

    def grow(self, place: Place, device: BlockDevice, size: int, *, running: bool) -> NbdSource | None:
        """See `compute_agent.storage.contract.DiskDriver.grow_disk`."""

    def delete(self, place: Place) -> None:
        """Remove a disk that was made for the instance, and whatever is remembered of one that was not."""


class SharedKind(DiskKind, Protocol):
    """Disks that other hosts can reach. What `is_elsewhere` is opened where that is asked for, and left alone."""

    def leave_proof(self, place: Place, device: BlockDevice, proof: str, *, runs: bool) -> None:
        """Another host, where the guest that `runs` is to come to, can see that what it finds is this very disk.

        :raises MigrationRefused: it would not find all that the guest has written to it.
        :raises StorageError: it cannot be reached.
        """

    def take_proof_back(self, place: Place, device: BlockDevice, proof: str) -> None:
        """No other host will be asked. Raises likewise."""

    def require_same(self, place: Place, device: BlockDevice, coming: Coming) -> None:
        """See that this host finds the very disk that the instance has on another.

        :raises MigrationRefused: it does not, or could not open it in time.
        :raises StorageError, DeadlineExceeded: its cluster does not answer.
        """

    def take_over(self, place: Place, device: BlockDevice) -> None:
        """It is the instance's on this host, and no other's any more.

        :raises DiskInUse: another instance has taken it.
        :raises StorageError, DeadlineExceeded: it cannot be reached.
        """
