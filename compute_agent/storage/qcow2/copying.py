"""qemu-img, copying disks that nobody has open, and keeping account of what is written to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.settings import Compression

Medium = FileSource | NbdSource
"""What is copied from or to; what a file stands on is in its header."""


class CopyingQemuImg(QemuImg):
    """Of what disks are kept in: of one that holds a LUKS container, the container."""

    def create_copy(self, path: Path, size: int, parent: Path | None, compression: Compression) -> None:
        """A qcow2 of `size` bytes to copy to; it holds what differs from `parent`, which is not opened."""
        options = [] if compression == "off" else [f"compression_type={compression}"]
        below = () if parent is None else ("-u", "-F", "qcow2", "-b", str(parent))
        self._create(options, None, *below, str(path), str(size))

    def convert(self, source: Medium, target: Medium, *, target_is_zero: bool) -> None:
        """Copy all that a guest would see of `source` into `target`, which is there and large enough."""
        zero = ["--target-is-zero"] if target_is_zero else []
        way = "-c" if isinstance(target, FileSource) and target.compressed else "-W"
        words = ("-f", _format(source), "-O", _format(target), _name(source), _name(target))
        connections = [medium.fd for medium in (source, target) if isinstance(medium, NbdSource)]
        self._require("convert", "-q", "-n", way, *zero, *words, pass_fds=connections)

    def size(self, server: NbdSource) -> int:
        """Bytes of an NBD server's export.

        :raises StorageError: there is none, or no answer.
        """
        said = self._require("info", "--output=json", "-f", "raw", _name(server), pass_fds=[server.fd])
        return int(json.loads(said)["virtual-size"])

    def bitmaps(self, path: Path) -> set[str]:
        """The names of those that the qcow2 at `path` holds."""
        result = self._run("info", "--output=json", "-f", "qcow2", str(path))
        if result.returncode != 0:
            raise StorageError(f"{path} is no qcow2 that can be read")
        return {one["name"] for one in json.loads(result.stdout)["format-specific"]["data"].get("bitmaps", [])}

    def add_bitmap(self, path: Path, name: str) -> None:
        """From now on the qcow2 remembers what is written to it. Nothing happens where it has a bitmap of that name."""
        if name not in self.bitmaps(path):
            self._require("bitmap", "--add", "-f", "qcow2", str(path), name)

    def remove_bitmaps(self, path: Path, names: Iterable[str]) -> None:
        """All of these are there."""
        for name in names:
            self._require("bitmap", "--remove", "-f", "qcow2", str(path), name)


def _format(medium: Medium) -> str:
    return medium.format if isinstance(medium, FileSource) else "raw"


def _name(medium: Medium) -> str:
    if isinstance(medium, FileSource):
        return str(medium.path)
    server = {"type": "fd", "str": str(medium.fd)}
    return "json:" + json.dumps({"driver": "raw", "file": {"driver": "nbd", "server": server, "export": medium.export}})
