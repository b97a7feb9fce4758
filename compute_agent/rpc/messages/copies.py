"""Copies of disks: snapshots, which are images, and backups."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compute_agent.instance.model import MOST_DISKS
from compute_agent.instance.wire import END, Backend, Uuid
from compute_agent.rpc.messages.base import DiskReference, InstanceChange, Message


class SnapshotInstance(InstanceChange, frozen=True):
    """Make an image of the root disk as it is now; its address and checksum come with the operation's end.

    In a file of this node (`backend` qcow2, the default), or where the disk is in Ceph also there (rbd): nothing of it
    goes through the node then, and disks can be cloned from it on every node of the cluster.
    """

    image_id: Uuid
    backend: Backend | None = None


class GetSnapshot(Message, frozen=True):
    """An image that was made of an instance."""

    image_id: Uuid


class DeleteSnapshot(Message, frozen=True):
    """Remove such an image, if it is there; instances that were made from it stay.

    Refused of one in Ceph that disks stand on.
    """

    image_id: Uuid


class BackupInstance(InstanceChange, frozen=True):
    """Copy disks (all: null) as they all are now; with `parent`, their last backup, only what was written since.

    They are copied to files of this node (`target` null), to images in Ceph beside the instances' own (rbd), or to an
    NBD server: ``nbd://HOST:PORT/PREFIX`` has an export PREFIXdisk0 for disk0, and so on, each as large as the disk
    and, with `parent`, with that backup's content. It lets several clients in, one after the other.
    """

    backup_id: Uuid
    target: Annotated[str, Meta(pattern="^(rbd|nbd://[^/\\s]+/[^\\s]+)" + END, max_length=512)] | None = None
    disks: Annotated[list[DiskReference], Meta(min_length=1, max_length=MOST_DISKS)] | None = None
    parent: Uuid | None = None


class RestoreInstance(InstanceChange, frozen=True):
    """Have the disks of a stopped instance be what they were when a backup was made."""

    backup_id: Uuid


class ListBackups(Message, frozen=True):
    """The backups on this host, oldest first; of one instance, where it is given."""

    instance_uuid: Uuid | None = None


class DeleteBackup(Message, frozen=True):
    """Remove a backup, if it is there; refused while another stands on it."""

    backup_id: Uuid


MESSAGES: tuple[type[Message], ...] = (
    SnapshotInstance,
    GetSnapshot,
    DeleteSnapshot,
    BackupInstance,
    RestoreInstance,
    ListBackups,
    DeleteBackup,
)
