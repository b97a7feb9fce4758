"""Copies of disks: snapshots, which are images, and backups. What the agent tells about them, and keeps beside them.

Sizes are in bytes, times are seconds since the epoch.
"""

from __future__ import annotations

from msgspec import Struct

from compute_agent.instance.preparation import prepare


class Snapshot(Struct, frozen=True, kw_only=True):
    """An instance's root disk as it was at one moment: a qcow2 image that stands on nothing else."""

    image_id: str
    instance_uuid: str
    url: str
    """Where the agents of this host take it from."""
    checksum: str
    size: int
    """Of the file."""
    virtual_size: int
    created_at: float
    frozen: bool
    """The guest's file systems were consistent at that moment: frozen by its guest agent, or not in use."""


class DiskBackup(Struct, frozen=True, kw_only=True):
    """One disk's part of a backup."""

    name: str
    size: int
    """Of the file: what had changed, if the backup has a parent."""
    virtual_size: int


class Backup(Struct, frozen=True, kw_only=True):
    """Disks of an instance as they all were at one moment; with a parent: what had changed since that one."""

    backup_id: str
    instance_uuid: str
    parent: str | None
    created_at: float
    frozen: bool
    """As of a `Snapshot`."""
    disks: list[DiskBackup]


prepare(Snapshot, Backup)
