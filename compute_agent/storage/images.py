"""The image cache: each source file once on this node, verified and inspected before it has its name.

A file's name is its checksum and what it was declared to be, so that another declaration is another
inspection. Disks and kernels stand on links of their own to these files (see `image_cache.uses`), so a file that
turned out to be corrupt, or that has to make room, can lose its name while they keep it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from compute_agent.errors import InvalidImage
from compute_agent.host.durable import PART_SUFFIX, publish
from compute_agent.instance.block_device import SourceFile
from compute_agent.instance.view import CachedImage
from compute_agent.storage.contract import Progress
from compute_agent.storage.fetch import fetch_file
from compute_agent.storage.files import require_present
from compute_agent.storage.image_cache.room import Entry, ImageRoom
from compute_agent.storage.image_cache.stamps import ImageStamps, has_checksum
from compute_agent.storage.image_cache.uses import ImageUses
from compute_agent.storage.inspection import Kind, inspect
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.single_flight import SingleFlight

LOG = logging.getLogger(__name__)

_READABLE = 0o444
"""Kernels are opened by a guest's process itself, which is a user of its own; the directory is closed to others."""

_MIB = 1024 * 1024


class ImageCache:
    """Files in ``settings.image_dir``, which exists. Every method may be called from many threads."""

    def __init__(self, settings: StorageSettings, qemu_img: QemuImg) -> None:
        self._settings = settings
        self._qemu_img = qemu_img
        self._limit = settings.image_cache_size_mb * _MIB
        self._flights = SingleFlight()
        directory, links = settings.image_dir, settings.image_dir / "used"
        self._stamps = ImageStamps(directory / "verified", settings.image_verify_interval)
        self._uses = ImageUses(links)
        self._room = ImageRoom(directory, links, self._limit, settings.reserved_space, self._stamps.forget)
        self._uses.release_lost(settings.disk_dir)
        self._room.remove_abandoned()

    def path(self, source: SourceFile, kind: Kind) -> Path:
        """Where the file is, once it is there; it stays there while it is held."""
        return self._settings.image_dir / f"{source.checksum.replace(':', '-')}.{kind}"

    def holding(self, source: SourceFile, kind: Kind) -> AbstractContextManager[None]:
        """The file makes room for nobody meanwhile. To be entered before `fetch`, and left when it is linked."""
        return self._room.holding(self.path(source, kind).name)

    def fetch(self, source: SourceFile, kind: Kind, progress: Progress) -> None:
        """Have the file in the cache, as sound as it was. Only one of many who ask at once brings it, and reports
        progress.

        :raises InvalidImage: with a field of `source`: ``url``, ``checksum`` or ``disk_format``.
        :raises InsufficientResources: no space for it.
        :raises StorageError: it cannot be read from its source.
        """
        path = self.path(source, kind)
        if path.exists() and not self._stamps.looks_sound(path):
            self._flights.run(path.name, lambda: self._verify(path, source))
        if not path.exists():
            # By URL too: who names a source that fails must not fail those who named a good one.
            part = path.with_name(f"{path.name}.{hashlib.sha256(source.url.encode()).hexdigest()[:16]}{PART_SUFFIX}")
            self._flights.run(part.name, lambda: self._bring(source, kind, part, progress))
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))

    def link(self, instance_uuid: str, name: str, source: SourceFile, kind: Kind) -> Path:
        """What a disk, or kernel, of the instance shall stand on from now on; the file is held.

        :raises StorageError: it is not in the cache.
        """
        return self._uses.link(require_present(self.path(source, kind)), instance_uuid, name)

    def base(self, instance_uuid: str, name: str, source: SourceFile, kind: Kind) -> Path:
        """What it stands on.

        :raises StorageError: that is missing.
        """
        path = self._uses.path(instance_uuid, name)
        # Disks of an agent that did not link yet are linked now.
        return path if path.exists() else self.link(instance_uuid, name, source, kind)

    def release(self, instance_uuid: str) -> None:
        """The instance is gone."""
        self._uses.release(instance_uuid)

    def describe(self) -> list[CachedImage]:
        """Each finished file, the one that was used longest ago first."""
        counts = self._uses.counts()
        return [_describe(entry, counts[entry.inode]) for entry in self._finished()]

    def foreign(self) -> list[Path]:
        """What is beside the files, and is none."""
        return self._room.foreign()

    def prune(self) -> list[CachedImage]:
        """Remove each finished file that nobody uses; they are fetched again when they are needed."""
        return [_describe(entry, 0) for entry in self._room.remove_unused()]

    def usage(self) -> Mapping[str, int]:
        """Bytes of ``size`` and ``limit`` (0: none); ``count`` of the files, and how many are ``in_use``."""
        finished = self._finished()
        in_use = sum(entry.links > 1 for entry in finished)
        return {"size": self._room.size(), "limit": self._limit, "count": len(finished), "in_use": in_use}

    def _finished(self) -> list[Entry]:
        return [entry for entry in self._room.entries() if entry.path.suffix != PART_SUFFIX]

    def _verify(self, path: Path, source: SourceFile) -> None:
        if not path.exists():  # another thread has found it corrupt
            return
        if has_checksum(path, source.checksum):
            self._stamps.write(path, path)
            return
        users = self._uses.users(path.stat().st_ino)
        LOG.error("Cached image %s is corrupt and fetched again; on it stand: %s", path, ", ".join(users) or "no disks")
        self._stamps.forget(path)
        path.unlink()

    def _bring(self, source: SourceFile, kind: Kind, part: Path, progress: Progress) -> None:
        path = self.path(source, kind)
        if path.exists():  # since the caller looked
            return
        self._room.remove_abandoned()
        with self._room.coming(part.name) as make_room:
            fetch_file(source, part, self._settings, make_room, progress)
            try:
                inspect(part, source, kind, self._qemu_img)
            except InvalidImage:
                part.unlink()
                raise
            part.chmod(_READABLE)
            self._stamps.write(path, part)  # first, or whoever finds the file would verify it
            publish(part, path)


def _describe(entry: Entry, users: int) -> CachedImage:
    checksum, _, kind = entry.path.name.partition(".")
    return CachedImage(
        checksum=checksum.replace("-", ":"), kind=kind, size=entry.size, used_at=entry.used_at, used_by=users
    )
