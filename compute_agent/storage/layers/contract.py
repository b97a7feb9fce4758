"""What the storage room offers about snapshots of disks, a part of `DiskDriver`. Each verb may be repeated.

A disk's ``layers`` name those that are a part of it. Whoever adds or removes one changes the record in between.
"""

from __future__ import annotations

from typing import Protocol

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance


class LayerStore(Protocol):
    """Makes the files of layers, and changes them while nobody has them open."""

    def check(self, instance: Instance, device: BlockDevice) -> None:
        """:raises InvalidMessage: the disk can have no layers, or no more; says what can be done instead."""

    def make(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """Make an empty layer for the disk, which does not have it yet.

        :raises InsufficientResources: there is no room for it.
        """

    def forget_marks(self, instance: Instance, device: BlockDevice) -> None:
        """The disk of an instance that does not run does not remember any more what was written to it since when."""

    def commit(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """Put what a layer holds into what it stands on, durably; a layer above stands on that from now on.

        The instance does not run. The disk is the same afterwards, with the layer and without it.
        """

    def empty(self, instance: Instance, device: BlockDevice) -> None:
        """The newest layer of an instance that does not run holds nothing again."""

    def delete(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        """Remove the file of a layer that the disk does not have any more. Nothing happens where there is none."""

    def fold(self, instance: Instance, device: BlockDevice) -> None:
        """The disk of an instance that does not run keeps its content, and none of its layers; their files go."""
