"""An instance's disks: volumes, sizes, limits, layers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.wire import Uuid
from compute_agent.rpc.messages.base import DiskReference, InstanceChange, Message


class AttachVolume(InstanceChange, frozen=True):
    """Give the instance one more disk: a volume, or an empty disk of its own that goes when it is detached."""

    block_device: BlockDevice


class DetachVolume(InstanceChange, frozen=True):
    """Take a disk away again; fails, and may be repeated, where the guest does not let go of it."""

    volume_id: Uuid


class ExtendVolume(InstanceChange, frozen=True):
    """Make a disk as large as this, while the guest runs too. A volume that its owner has grown is only looked at."""

    disk: DiskReference
    size_gb: Annotated[int, Meta(ge=1, le=64 * 1024, description="GiB")]


class SetDiskQos(InstanceChange, frozen=True):
    """Limit a disk anew; null takes all limits away."""

    disk: DiskReference
    qos: DiskQos | None = None


class _DiskSnapshot(InstanceChange, frozen=True):
    disk: DiskReference
    snapshot_id: Uuid


class VolumeSnapshotCreate(_DiskSnapshot, frozen=True):
    """From now on the guest writes to an overlay beside the disk; what was there before stays as it is, to be read."""


class VolumeSnapshotDelete(_DiskSnapshot, frozen=True):
    """Put what was written since a snapshot where it would be without it; the disk keeps all, the overlay goes."""


class VolumeSnapshotRevert(_DiskSnapshot, frozen=True):
    """Have a disk of a stopped instance be what it was at its newest snapshot, which stays."""


MESSAGES: tuple[type[Message], ...] = (
    AttachVolume,
    DetachVolume,
    ExtendVolume,
    SetDiskQos,
    VolumeSnapshotCreate,
    VolumeSnapshotDelete,
    VolumeSnapshotRevert,
)
