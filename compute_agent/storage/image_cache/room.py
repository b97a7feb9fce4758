"""Room in the image cache: what was used longest ago goes first, and nothing that is in use."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import InsufficientResources
from compute_agent.host.durable import PART_SUFFIX
from compute_agent.storage.files import BLOCK, free_space, require_space

LOG = logging.getLogger(__name__)

_MIB = 1024 * 1024

_OURS = rf"\w+-[0-9a-f]+\.\w+(\.[0-9a-f]+{re.escape(PART_SUFFIX)})?"
"""What a file of the cache is called: by its checksum and kind; one that is coming, by its source, too."""

PART_LIFETIME = 24 * 3600.0
"""Seconds after which nobody will go on with an unfinished download."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache, finished or not."""

    path: Path
    size: int
    """Bytes that it takes on its file system."""
    used_at: float
    """When it was last used, in seconds since the epoch."""
    inode: int
    links: int
    """1 where no disk stands on it."""


class ImageRoom:
    """The space of `directory`. Every method may be called from many threads."""

    def __init__(self, directory: Path, links: Path, limit: int, reserved_space: int, forget: Callable[[Path], None]):
        """At most `limit` bytes (0: any number), files in `links` included; `forget` is told of what is removed."""
        self._directory = directory
        self._links = links
        self._limit = limit
        self._reserved_space = reserved_space
        self._forget = forget
        self._guard = threading.Lock()
        self._held: Counter[str] = Counter()
        self._coming: dict[str, int] = {}

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Nobody removes the file of this name meanwhile, whether it is there already or not."""
        with self._guard:
            self._held[name] += 1
        try:
            yield
        finally:
            with self._guard:
                self._held[name] -= 1
                self._held += Counter()  # only those that are held by somebody stay

    @contextmanager
    def coming(self, name: str) -> Iterator[Callable[[int], None]]:
        """While a file is brought: what is given says how many bytes of it are still to come, and makes room."""
        try:
            with self.holding(name):
                yield lambda needed: self._expect(name, needed)
        finally:
            with self._guard:
                self._coming.pop(name, None)

    def entries(self) -> list[Entry]:
        """The files of the cache, the one that was used longest ago first."""
        return sorted(self._entries(), key=lambda entry: entry.used_at)

    def foreign(self) -> list[Path]:
        """Files that somebody else has put here: they are nobody's to remove."""
        return [entry.path for entry in _entries(self._directory) if not re.fullmatch(_OURS, entry.path.name)]

    def size(self) -> int:
        """Bytes that all files take, those too that only disks still know."""
        found = {entry.inode: entry.size for entry in (*self._entries(), *_entries(self._links))}
        return sum(found.values())

    def remove_abandoned(self) -> None:
        """Drop unfinished downloads that nobody goes on with."""
        with self._guard:
            for entry in self.entries():
                if entry.path.suffix == PART_SUFFIX and time.time() - entry.used_at > PART_LIFETIME:
                    self._remove_idle(entry)

    def remove_unused(self) -> list[Entry]:
        """Remove all finished files that nobody uses; what is gone now."""
        with self._guard:
            return [entry for entry in self.entries() if entry.path.suffix != PART_SUFFIX and self._remove_idle(entry)]

    def _entries(self) -> Iterator[Entry]:
        return (entry for entry in _entries(self._directory) if re.fullmatch(_OURS, entry.path.name))

    def _expect(self, name: str, needed: int) -> None:
        """:raises InsufficientResources: what may be removed is not enough."""
        with self._guard:
            promised = self._coming.pop(name, 0)
            coming = needed + sum(self._coming.values())
            # What was promised is within the limit still: the file has grown by what is not to come any more.
            if not self._leaves_reserve(coming) or (needed > promised and not self._is_within_limit(coming)):
                self._evict(coming)
            self._coming[name] = needed

    def _evict(self, needed: int) -> None:
        for entry in self.entries():
            if self._leaves_reserve(needed) and self._is_within_limit(needed):
                return
            self._remove_idle(entry)
        require_space(self._directory, needed, self._reserved_space)
        if not self._is_within_limit(needed):
            raise InsufficientResources(
                f"the image cache has no room for {needed / _MIB:.1f} MiB: {self.size() / _MIB:.1f} MiB of its "
                f"{self._limit / _MIB:.1f} MiB are in use (see [storage] image_cache_size_mb)"
            )

    def _leaves_reserve(self, needed: int) -> bool:
        return free_space(self._directory) - needed >= self._reserved_space

    def _is_within_limit(self, needed: int) -> bool:
        return not self._limit or self.size() + needed <= self._limit

    def _remove_idle(self, entry: Entry) -> bool:
        # Looked at again: a disk may have been made meanwhile. One that is just being made holds its image.
        if self._held[entry.path.name] or entry.path.stat().st_nlink != 1:
            return False
        LOG.info("Removing %s (%.1f MiB) from the image cache", entry.path.name, entry.size / _MIB)
        entry.path.unlink(missing_ok=True)
        self._forget(entry.path)
        return True


def _entries(directory: Path) -> Iterator[Entry]:
    for found in os.scandir(directory):
        with suppress(FileNotFoundError):  # an unfinished one that has just got its name, or failed
            status = found.stat(follow_symlinks=False)
            if found.is_file(follow_symlinks=False):
                used_at = max(status.st_atime, status.st_mtime) if found.name.endswith(PART_SUFFIX) else status.st_atime
                yield Entry(Path(found.path), status.st_blocks * BLOCK, used_at, status.st_ino, status.st_nlink)
