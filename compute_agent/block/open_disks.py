"""The disks of a guest that runs, seen from the agent: whoever has them open copies, layers and limits them."""

from __future__ import annotations

from typing import Protocol

from compute_agent.block.copies import DiskCopies
from compute_agent.block.layers import DiskLayers
from compute_agent.instance.block_device import DiskQos


class OpenDisks(Protocol):
    """Of one instance: in its guest's process, or in its block server.

    All raise GuestGone or StorageError where that has ended.
    """

    @property
    def copies(self) -> DiskCopies:
        """Copies of them."""

    @property
    def layers(self) -> DiskLayers:
        """Snapshots of them."""

    def set_disk_qos(self, name: str, qos: DiskQos | None) -> None:
        """Limit a disk anew, and all that shares its limits; None: not at all."""
