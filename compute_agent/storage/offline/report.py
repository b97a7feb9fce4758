"""What is in a disk: partitions, file systems, and the operating system."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from compute_agent.storage.offline.appliance import Appliance
from compute_agent.storage.offline.workspace import DiskFormat, copied

_DISK = "/dev/sda"
_CLOUD_INIT = "/usr/bin/cloud-init"


class Partition(Struct, frozen=True, kw_only=True):
    """One entry of the partition table; in bytes."""

    number: int
    start: int
    size: int


class FileSystem(Struct, frozen=True, kw_only=True):
    """What a partition, or the whole disk, holds."""

    device: str
    type: str
    size: int
    """Bytes."""
    label: str


class OperatingSystem(Struct, frozen=True, kw_only=True):
    """As libguestfs recognises it."""

    root: str
    """The device with its root file system."""
    type: str
    distribution: str
    version: str
    architecture: str
    hostname: str
    cloud_init: bool


class DiskReport(Struct, frozen=True, kw_only=True):
    """All of it; a disk may hold no partition table and no operating system, or several of the latter."""

    virtual_size: int
    """Bytes."""
    partition_table: str | None
    partitions: list[Partition]
    file_systems: list[FileSystem]
    operating_systems: list[OperatingSystem]


def inspect_disk(path: Path, disk_format: DiskFormat, directory: Path, seconds: float) -> DiskReport:
    """Look into a disk that no guest writes to; `directory` has room for a copy.

    :raises StorageError: it cannot be inspected.
    :raises InsufficientResources: no space for the copy.
    :raises DeadlineExceeded: it takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    with (
        copied(path.resolve(), disk_format, directory, deadline) as copy,
        Appliance(copy, disk_format, deadline) as disk,
    ):
        table = disk.find("part-get-parttype", _DISK)
        return DiskReport(
            virtual_size=int(disk.ask("blockdev-getsize64", _DISK)[0]),
            partition_table=table[0] if table else None,
            partitions=_partitions(disk) if table else [],
            file_systems=[_file_system(disk, *line.rsplit(": ", 1)) for line in disk.ask("list-filesystems")],
            operating_systems=[_operating_system(disk, root) for root in disk.ask("inspect-os")],
        )


def mount(disk: Appliance, root: str, command: str) -> None:
    """Mount an operating system's file systems as it would, with `command`.

    :raises StorageError: one cannot be mounted.
    """
    disk.ask("umount-all")
    lines = disk.ask("inspect-get-mountpoints", root)
    for point, device in sorted((line.split(": ", 1) for line in lines), key=lambda entry: len(entry[0])):
        disk.ask(command, device, point)


def _partitions(disk: Appliance) -> list[Partition]:
    entries: list[dict[str, Any]] = []
    for line in disk.ask("part-list", _DISK):
        if line.startswith("["):
            entries.append({})
        elif found := re.fullmatch(r"\s+part_(num|start|size): (\d+)", line):
            entries[-1]["number" if found[1] == "num" else found[1]] = int(found[2])
    return [Partition(**entry) for entry in entries]


def _file_system(disk: Appliance, device: str, kind: str) -> FileSystem:
    size, label = disk.find("blockdev-getsize64", device), disk.find("vfs-label", device)
    return FileSystem(device=device, type=kind, size=int(size[0]) if size else 0, label=label[0] if label else "")


def _operating_system(disk: Appliance, root: str) -> OperatingSystem:
    def fact(name: str) -> str:
        lines = disk.find(f"inspect-get-{name}", root)
        return lines[0] if lines else "unknown"

    mount(disk, root, "mount-ro")
    return OperatingSystem(
        root=root,
        type=fact("type"),
        distribution=fact("distro"),
        version=f"{fact('major-version')}.{fact('minor-version')}",
        architecture=fact("arch"),
        hostname=fact("hostname"),
        cloud_init=disk.ask("is-file", _CLOUD_INIT, "followsymlinks:true") == ["true"],
    )
