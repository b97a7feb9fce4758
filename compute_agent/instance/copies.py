"""Copies of disks: snapshots, which are images, and backups. What the agent tells about them, and keeps beside them.

Sizes are in bytes, times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from compute_agent.instance.preparation import prepare


class Snapshot(Struct, frozen=True, kw_only=True):
    """An instance's root disk as it was at one moment: an image that stands on nothing else."""

    image_id: str
    instance_uuid: str
    url: str
    """Where agents take it from: those of this host a ``file://``, those of the cluster's hosts an ``rbd://``."""
    checksum: str
    """Empty of an image in Ceph, which no node has read."""
    disk_format: Literal["qcow2", "raw"] = "qcow2"
    size: int
    """Of the file, or of the image in Ceph."""
    virtual_size: int
    created_at: float
    frozen: bool
    """The guest's file systems were consistent at that moment: frozen by its guest agent, or not in use."""

    @property
    def is_in_ceph(self) -> bool:
        """It is no file of a node's."""
        return self.url.startswith("rbd:")


class DiskBackup(Struct, frozen=True, kw_only=True):
    """One disk's part of a backup."""

    name: str
    size: int
    """Of the file: what had changed, if the backup has a parent. Elsewhere as large as the disk."""
    virtual_size: int


class Backup(Struct, frozen=True, kw_only=True):
    """Disks of an instance as they all were at one moment; with a parent: what had changed since that one."""

    backup_id: str
    instance_uuid: str
    parent: str | None
    target: str | None = None
    """Where it is: null: in files of its node; ``rbd``: in Ceph; or ``nbd://HOST:PORT/PREFIX``."""
    overwritten_by: str | None = None
    """The backup that went to the same exports of an NBD server later, or tried to: this one cannot be restored."""
    created_at: float
    frozen: bool
    """As of a `Snapshot`."""
    disks: list[DiskBackup]

    @property
    def is_on_nbd_server(self) -> bool:
        """It is whole there, whatever becomes of its parent."""
        return self.target is not None and self.target.startswith("nbd:")


prepare(Snapshot, Backup)
