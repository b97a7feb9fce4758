"""The files of a disk with layers. Their names come from the disk's file and the snapshots' ids; no path is kept.

::

    disk0.qcow2               as it was at the first snapshot
    disk0.qcow2.<snapshot>    what was written from then on, until the next one
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from compute_agent.instance.devices import FileSource
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.storage.files import require_present


def layer_path(disk: Path, layer: str) -> Path:
    """The overlay of a snapshot of the disk whose first file is `disk`."""
    return disk.with_name(f"{disk.name}.{layer}")


def with_layers(disk: FileSource, layers: Sequence[str]) -> FileSource:
    """The newest overlay, and all that it stands on.

    :raises StorageError: one is missing.
    """
    source = disk
    for layer in layers:
        path = require_present(layer_path(disk.path, layer))
        source = FileSource(path=path, format="qcow2", backing=source, layer=layer)
    return source


def layers_beside(disk: Path) -> set[str]:
    """The snapshots of which there are overlays, whoever they belong to."""
    begins = f"{disk.name}."
    suffixes = {name.removeprefix(begins) for entry in disk.parent.iterdir() if (name := entry.name).startswith(begins)}
    return {suffix for suffix in suffixes if re.fullmatch(UUID_PATTERN, suffix)}
