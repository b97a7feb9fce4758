"""qemu-img, changing overlays that nobody has open."""

from __future__ import annotations

import json
from pathlib import Path

from compute_agent.instance.devices import FileSource
from compute_agent.storage.qcow2.copying import CopyingQemuImg


class LayeringQemuImg(CopyingQemuImg):
    """Each run may take as long as a copy."""

    def commit(self, layer: FileSource) -> None:
        """Write what the overlay holds to what it stands on, which becomes as large; the overlay stays as it is."""
        self._require("commit", "-q", "-d", f"json:{json.dumps(_node(layer))}")

    def rebase(self, overlay: Path, below: FileSource) -> None:
        """The overlay says that it stands on `below`, which has the same content as what it stood on."""
        self._require("rebase", "-q", "-u", "-f", "qcow2", "-F", below.format, "-b", str(below.path), str(overlay))


def _node(source: FileSource) -> dict[str, object]:
    """All files as they are known to be, not as their headers say."""
    node: dict[str, object] = {"driver": source.format, "file": {"driver": "file", "filename": str(source.path)}}
    if source.format == "qcow2":
        node["backing"] = _node(source.backing) if source.backing is not None else None
    return node
