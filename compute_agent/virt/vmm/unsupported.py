"""What a guest of `vmm` cannot do yet, refused by name; what has nothing to do is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from compute_agent.errors import Unsupported
from compute_agent.instance.devices import Disk
from compute_agent.virt.copies import DiskCopy

_COPY = "copy the disks of a running guest"
_LAYER = "take or give up snapshots of a running guest's disks"


class NoCopies:
    """Keeps `compute_agent.virt.copies.DiskCopies` where there never are any."""

    def begin(self, name: str, copies: Sequence[DiskCopy]) -> bool | None:
        raise Unsupported("vmm", _COPY)

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        raise Unsupported("vmm", _COPY)

    def progress(self, name: str, seconds: float) -> int:
        raise Unsupported("vmm", _COPY)

    def end(self) -> None:
        """There are none."""

    def marks(self, disk: str) -> set[str]:
        return set()

    def forget_marks(self, disk: str, keep: Collection[str]) -> None:
        """There are none."""


class NoLayers:
    """Keeps `compute_agent.virt.layers.DiskLayers`, likewise."""

    def add(self, disk: Disk) -> None:
        raise Unsupported("vmm", _LAYER)

    def writes_to(self, disk: str, layer: str) -> bool:
        return False

    def begin_commit(self, name: str, disk: Disk, layer: str) -> None:
        raise Unsupported("vmm", _LAYER)

    def progress(self, name: str, seconds: float) -> int:
        raise Unsupported("vmm", _LAYER)

    def finish(self, name: str, disk: Disk, layer: str) -> None:
        raise Unsupported("vmm", _LAYER)

    def abandon(self, name: str, disk: Disk) -> None:
        """There is none."""
