"""Where copies are, and those that are being made.

::

    snapshot_dir/<image_id>.qcow2, <image_id>.json
    backup_dir/<backup_id>/disk0.qcow2, disk1.qcow2, …, backup.json
    either/<id>.<instance_uuid>.part/        not complete; nobody reads it
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from compute_agent.errors import InvalidMessage
from compute_agent.host.durable import PART_SUFFIX, part_of, publish
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.settings import StorageSettings

T = TypeVar("T")

DESCRIPTION = "backup.json"
_FROZEN = "frozen"


class Places:
    """Of this node; its directories exist."""

    def __init__(self, settings: StorageSettings) -> None:
        self.snapshots = settings.snapshot_dir
        self.backups = settings.backup_dir

    def unfinished(self, order: CopyOrder) -> Path:
        """The directory of a copy that is being made."""
        base = self.snapshots if order.kind == "snapshot" else self.backups
        return base / f"{order.copy_id}.{order.instance.uuid}{PART_SUFFIX}"

    def make_directory(self, order: CopyOrder) -> Path:
        """It is there, and empty."""
        directory = self.unfinished(order)
        directory.mkdir(mode=0o700)
        return directory

    def target(self, order: CopyOrder, disk: str) -> Path:
        """The file of one disk in it."""
        return self.unfinished(order) / f"{disk}.qcow2"

    def frozen_note(self, order: CopyOrder) -> Path:
        """There, if the guest's file systems were frozen."""
        return self.unfinished(order) / _FROZEN

    def complete(self, order: CopyOrder) -> Path:
        """What the copy becomes: a file or a directory."""
        return self.snapshot(order.copy_id) if order.kind == "snapshot" else self.backup(order.copy_id)

    def snapshot(self, image_id: str) -> Path:
        """The image's file."""
        return self.snapshots / f"{_checked('image_id', image_id)}.qcow2"

    def snapshot_description(self, image_id: str) -> Path:
        """What is known about it."""
        return self.snapshot(image_id).with_suffix(".json")

    def backup(self, backup_id: str) -> Path:
        """The backup's directory."""
        return self.backups / _checked("backup_id", backup_id)

    def backup_file(self, backup_id: str, disk: str) -> Path:
        """The file of one disk in it."""
        return self.backup(backup_id) / f"{disk}.qcow2"

    def all_backups(self) -> list[Path]:
        """The directories of those that are complete."""
        return [entry for entry in self.backups.iterdir() if re.fullmatch(UUID_PATTERN, entry.name)]

    def all_unfinished(self) -> list[tuple[str, Path]]:
        """Instance and directory of every copy that was begun and has not got its name."""
        parts = [part for base in (self.snapshots, self.backups) for part in base.glob(f"*{PART_SUFFIX}")]
        return [(part.name.removesuffix(PART_SUFFIX).rpartition(".")[2], part) for part in parts]


def write_description(path: Path, description: object) -> None:
    """JSON; there as a whole or not at all."""
    part = part_of(path)
    part.write_bytes(msgspec.json.encode(description))
    publish(part, path)


def read_description(path: Path, kind: type[T]) -> T | None:
    """None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _checked(field: str, value: str) -> str:
    """A uuid, which cannot be a path to somewhere else."""
    if not re.fullmatch(UUID_PATTERN, value):
        raise InvalidMessage(field, value, "is not a uuid")
    return value
