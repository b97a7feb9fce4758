"""Which cached files the disks and kernels of instances stand on: a hard link for each.

What is linked is whole as long as its instance needs it, whatever becomes of the cached file's own name; and a file
with one link is one that nobody uses. The links are beside the files, as a file system's links cannot leave it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from compute_agent.host.durable import PART_SUFFIX, part_of, sync
from compute_agent.instance.wire import UUID_PATTERN


class ImageUses:
    """Links in `directory`, called after instance and disk; it is made when it is not there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory

    def path(self, instance_uuid: str, name: str) -> Path:
        """Where the instance's disk, or kernel, of this name finds what it stands on."""
        return self._directory / f"{instance_uuid}.{name}"

    def link(self, file: Path, instance_uuid: str, name: str) -> Path:
        """Let it stand on `file`, whatever it stood on before. Durable, because a disk will be.

        :raises OSError: there is no such file, or the file system refuses.
        """
        path = self.path(instance_uuid, name)
        part = part_of(path)
        part.unlink(missing_ok=True)
        os.link(file, part)
        part.rename(path)
        part.unlink(missing_ok=True)  # rename does nothing where both are links of one file
        sync(self._directory)
        return path

    def release(self, instance_uuid: str) -> None:
        """The instance is gone."""
        for link in self._directory.glob(f"{instance_uuid}.*"):
            link.unlink(missing_ok=True)

    def release_lost(self, disk_dir: Path) -> None:
        """Drop the links of instances that have no directory of disks."""
        for link in self._directory.iterdir():
            if not (disk_dir / link.name.partition(".")[0]).exists():
                link.unlink(missing_ok=True)

    def users(self, inode: int) -> list[str]:
        """What stands on the file, such as ``<instance uuid>.disk0``, in order."""
        return sorted(name for name, number in self._links() if number == inode)

    def counts(self) -> Counter[int]:
        """How many stand on each file, by its inode."""
        return Counter(number for _, number in self._links())

    def _links(self) -> Iterator[tuple[str, int]]:
        for entry in os.scandir(self._directory):
            if re.fullmatch(UUID_PATTERN, entry.name.partition(".")[0]) and not entry.name.endswith(PART_SUFFIX):
                yield entry.name, entry.inode()
