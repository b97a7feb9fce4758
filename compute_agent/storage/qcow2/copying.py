"""qemu-img, copying disks that nobody has open, and keeping account of what is written to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.storage.qcow2.qemu_img import QemuImg


class CopyingQemuImg(QemuImg):
    """Of disks that are not encrypted."""

    def convert(self, source: Path, source_format: str, target: Path, *, target_is_zero: bool) -> None:
        """Copy all that a guest would see of `source` into the qcow2 `target`, which is there and large enough."""
        zero = ["--target-is-zero"] if target_is_zero else []
        formats = ("-f", source_format, "-O", "qcow2")
        self._require("convert", "-q", "-n", "-W", *zero, *formats, str(source), str(target))

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
