"""What the storage room offers to the agent. Each verb may be repeated after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from compute_agent.block.open_disks import OpenDisks
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import BootFiles, Disk
from compute_agent.instance.migration import Mover
from compute_agent.instance.model import Instance
from compute_agent.instance.view import CachedImage

if TYPE_CHECKING:
    from compute_agent.storage.copies.contract import CopyStore
    from compute_agent.storage.layers.contract import LayerStore
    from compute_agent.storage.moving.contract import FileMoves, ServedMoves

OnCutOff = Callable[[str], None]
"""Told the uuid of an instance whose block server has ended by itself."""

Progress = Callable[[int], None]
"""Called now and then with the percentage that is done."""


class DiskMoves(Protocol):
    """Disks of guests that move between hosts. A disk that both can reach stays where it is, and changes its owner."""

    @property
    def files(self) -> FileMoves:
        """The way of those that exist on one host only, where their guest does not run."""

    def served(self, instance_uuid: str) -> ServedMoves | None:
        """The way of those that a block server has open for their guest; None: no server has all of them."""

    def mirrored(self, instance: Instance) -> Sequence[str]:
        """The names of those that exist on this host only, and are to be copied where the guest moves to another."""

    def leave_proof(self, instance: Instance, proof: str, *, runs: bool) -> None:
        """From now on another host, where a guest that `runs` is to come to, can see whether it finds the same disks.

        :raises MigrationRefused: it would not find all that the guest has written to one.
        :raises StorageError: one cannot be reached, or nothing can be written beside it.
        """

    def take_proof_back(self, instance: Instance, proof: str) -> None:
        """No other host will look for it any more. Raises likewise."""

    def require_shared(self, mover: Mover) -> None:
        """See that all others are within reach of this host, where their guest is to come to.

        :raises MigrationRefused: one is not.
        :raises StorageError, DeadlineExceeded: its cluster does not answer.
        """

    def disown(self, instance_uuid: str) -> None:
        """Disks that both can reach are another host's: from now on they are not made, taken or removed here."""

    def take_over(self, instance: Instance) -> None:
        """They are this host's, and no other's any more.

        :raises DiskInUse: another instance has taken one.
        :raises StorageError, DeadlineExceeded: their cluster does not answer; to be repeated.
        """

    def note_owner(self, instance: Instance, epoch: int) -> None:
        """Where a host that was believed dead may come back, it will find that they came here at that epoch."""

    def check_evacuation(self, instance: Instance, source: str, epoch: int) -> None:
        """See that the instance can be taken from a host that is dead; changes nothing.

        :raises MigrationRefused: a disk exists there only, nothing would keep that host from running it, or the epoch
            is not above the one at which it was taken last.
        :raises StorageError, DeadlineExceeded: the cluster of its disks does not answer.
        """

    def evacuate(self, instance: Instance, source: str, epoch: int) -> None:
        """Its disks are this host's, and nothing that may still run on that host can write to them. Raises likewise."""

    def is_lost(self, instance: Instance, epoch: int) -> bool:
        """Its disks went to another host after this one had it at that epoch.

        :raises StorageError, DeadlineExceeded: their cluster does not answer.
        """


class DiskDriver(Protocol):
    """Makes, finds and removes the disks of an instance, and gives it those that exist without it."""

    @property
    def copies(self) -> CopyStore:
        """Snapshots and backups."""

    @property
    def layers(self) -> LayerStore:
        """Snapshots that stay beside the disks."""

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

    @property
    def moves(self) -> DiskMoves:
        """What becomes of disks whose guest moves."""

    def check_device(self, field: str, device: BlockDevice) -> None:
        """The same for one disk that an instance is to get; `field` is where it stands in the message."""

    def connect(self, instance: Instance, *, vhost_user: bool) -> Sequence[Disk]:
        """The instance's disks, ready to be opened, in order; the config drive last. The caller closes them.

        From now on nobody else may write to them, on any host, until `disconnect`. `vhost_user`: the hypervisor opens
        none, so that a block server has to serve all of them over vhost-user, to one connection at a time.

        :raises DiskInUse: somebody else writes to one of them; says who.
        :raises StorageError: a disk is missing, or cannot be reached.
        """

    def is_cut_off(self, instance: Instance, *, vhost_user: bool) -> bool:
        """A disk of the instance is to be served by a block server, and is not; `connect` serves it again."""

    def disconnect(self, instance_uuid: str) -> None:
        """Let go of all disks of an instance that has no guest any more."""

    def create_disk(self, instance: Instance, device: BlockDevice, progress: Progress) -> None:
        """Make one more disk, which is in the instance already. One that exists stays as it is.

        :raises InsufficientResources: not enough space; nothing of the disk is left.
        :raises StorageError: it cannot be made; nothing of it is left.
        """

    def delete_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        """Remove one disk of the instance's own. Nothing happens where there is none."""

    def connect_disk(self, instance: Instance, device: BlockDevice, *, vhost_user: bool) -> Disk:
        """As `connect`, for one disk."""

    def disconnect_disk(self, instance_uuid: str, device: BlockDevice) -> None:
        """As `disconnect`, for one disk that the guest has let go of."""

    def grow_disk(self, instance: Instance, device: BlockDevice, size: int, *, running: bool) -> Disk | None:
        """See that a disk can be, or is, `size` bytes large.

        A guest that is `running` is told afterwards. It grows a local file itself; where a disk is returned, it has
        to go over to this fresh connection first, because the one that it has does not know of the new size.

        :raises InvalidMessage: the disk is larger already.
        :raises InsufficientResources: not enough space.
        """

    def grow_served_disk(self, instance: Instance, device: BlockDevice, size: int) -> None:
        """See that a disk that a running guest has over vhost-user is `size` bytes large. The guest is told afterwards.

        :raises InvalidMessage: it is larger already, or its owner says himself how large it is.
        :raises StorageError: its server does not make it larger.
        """

    def find_served_disks(self, instance: Instance) -> OpenDisks | None:
        """Those that a block server has open for the instance's guest; None: there is no such server."""

    def boot_files(self, instance: Instance) -> BootFiles | None:
        """The kernel to start directly, where the instance asks for one."""

    def delete(self, instance_uuid: str) -> None:
        """Remove every disk of the instance. Nothing happens where there is none."""

    def inspect(self) -> set[str]:
        """The uuids of all instances that have disks here."""

    def foreign(self) -> set[str]:
        """In words, what is among the directories of instances' disks, or in the image cache, and is neither."""

    def close(self) -> None:
        """Let go of what is open here; guests keep their disks."""

    def capacity(self) -> Mapping[str, Mapping[str, int]]:
        """Bytes, but for three numbers. ``qcow2``: ``total`` and ``free`` where local disks are, what they really take
        (``allocated``), and what their guests see (``provisioned``). ``images``, the cache: ``size``, ``limit``
        (0: none), ``count`` of images, and how many are ``in_use``. ``rbd``, the pool for disks of instances, if there
        is one and it is known: ``total`` and ``free``, and the ``age`` of that in seconds. No cluster is waited for.
        """

    def list_images(self) -> list[CachedImage]:
        """What the image cache holds, the image that was used longest ago first."""

    def prune_images(self) -> list[CachedImage]:
        """Remove from it what nobody uses; what is gone."""
