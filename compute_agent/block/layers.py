"""Snapshots of the disks of a guest that runs: what whoever has them open offers."""

from __future__ import annotations

from typing import Protocol

from compute_agent.instance.devices import Disk


class DiskLayers(Protocol):
    """One commit of a disk at a time. Each verb may be repeated after a crash."""

    def add(self, disk: Disk) -> None:
        """From one moment on the guest writes to the disk's newest layer, and what it stands on is only read.

        File systems are frozen for that moment, if the guest's agent sees to it. Nothing happens where the guest
        writes to that layer already.

        :raises MonitorError: the layer cannot be opened; the guest writes where it wrote before.
        """

    def writes_to(self, disk: str, layer: str) -> bool:
        """The layer is the one that the guest writes to."""

    def begin_commit(self, name: str, disk: Disk, layer: str) -> None:
        """Begin to copy what a layer holds to what it stands on; the guest goes on.

        Nothing happens where a commit of this name has begun.

        :raises MonitorError: a file cannot be opened, or the guest does not have that layer.
        """

    def progress(self, name: str, seconds: float) -> int:
        """Percent; 100 when all is copied, for which this waits up to `seconds`.

        At 100 the disk is the same, durably, with the layer and without it, and stays so: what the guest wants of the
        disk waits for `finish` or `abandon`.

        :raises MonitorError: it could not be copied, or nothing of this name has begun.
        """

    def finish(self, name: str, disk: Disk, layer: str) -> None:
        """From now on the guest does without the layer, and its file is closed. The disk has it, or has it no more.

        :raises MonitorError: the guest goes on with the layer.
        """

    def abandon(self, name: str, disk: Disk) -> None:
        """The commit is given up, and the guest goes on with the layer. Nothing happens where there is none."""
