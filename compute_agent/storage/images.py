"""The image cache: each source file once on this node, verified and inspected before it has its name.

A file's name is its checksum and what it was declared to be, so that another declaration is another
inspection. Linked clones stand on these files: nothing here removes one.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from compute_agent.host.durable import publish
from compute_agent.instance.block_device import SourceFile
from compute_agent.storage.contract import Progress
from compute_agent.storage.fetch import download
from compute_agent.storage.files import PART_SUFFIX
from compute_agent.storage.inspection import Kind, inspect
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.single_flight import SingleFlight

_READABLE = 0o444
"""Kernels are opened by a guest's process itself, which is a user of its own; the directory is closed to others."""

_BLOCK = 512
"""Bytes that `st_blocks` counts in."""


class ImageCache:
    """Files in ``settings.image_dir``, which exists. Every method may be called from many threads."""

    def __init__(self, settings: StorageSettings, qemu_img: QemuImg) -> None:
        self._settings = settings
        self._qemu_img = qemu_img
        self._flights = SingleFlight()
        for part in settings.image_dir.glob(f"*{PART_SUFFIX}"):
            part.unlink()

    def path(self, source: SourceFile, kind: Kind) -> Path:
        """Where the file is, once it is there."""
        return self._settings.image_dir / f"{source.checksum.replace(':', '-')}.{kind}"

    def fetch(self, source: SourceFile, kind: Kind, progress: Progress) -> None:
        """Have the file in the cache. Only one of many who ask at once brings it, and reports progress.

        :raises InvalidImage: with a field of `source`: ``url``, ``checksum`` or ``disk_format``.
        :raises InsufficientResources: no space for it.
        :raises StorageError: it cannot be read from its source.
        """
        path = self.path(source, kind)
        if not path.exists():
            # By URL too: who names a source that fails must not fail those who named a good one.
            part = path.with_name(f"{path.name}.{hashlib.sha256(source.url.encode()).hexdigest()[:16]}{PART_SUFFIX}")
            self._flights.run(part.name, lambda: self._bring(source, kind, part, progress))

    def size(self) -> int:
        """Bytes that the cache takes on its file system."""
        size = 0
        for entry in self._settings.image_dir.iterdir():
            with suppress(FileNotFoundError):  # an unfinished one that has just got its name, or failed
                size += entry.stat().st_blocks * _BLOCK
        return size

    def _bring(self, source: SourceFile, kind: Kind, part: Path, progress: Progress) -> None:
        path = self.path(source, kind)
        if path.exists():  # since the caller looked
            return
        try:
            download(source, part, self._settings, progress)
            inspect(part, source, kind, self._qemu_img)
            part.chmod(_READABLE)
            publish(part, path)
        finally:
            part.unlink(missing_ok=True)
