"""Copies of a guest's disks to the host that it moves to: the guest writes to both, who has them open copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from compute_agent.errors import MonitorError
from compute_agent.instance.devices import NbdSource


class DiskMirrors(Protocol):
    """Of one guest's disks, each a job. But for `begin` each verb may be repeated after a crash."""

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, key: str | None) -> None:
        """Begin to copy disks, by name, to a server of block devices.

        :param bandwidth: bytes a second for each; 0: as fast as it goes.
        :param key: what all of it is encrypted with, 32 bytes in hexadecimal; None: nothing is.
        :raises MonitorError, HostError: a target cannot be reached, or is not as large as its disk.
        """

    def jobs(self) -> list[dict[str, Any]]:
        """Those that there are, as ``query-jobs`` tells of them.

        :raises MonitorError: a disk could not be copied.
        """

    def finish(self) -> None:
        """The guest stands still: let go of the copies, which are complete then.

        :raises MonitorError: one could not be completed.
        """

    def abandon(self) -> None:
        """Let go of them as they are."""

    def tell(self, changed: Callable[[], None]) -> None:
        """Call this whenever something has changed about a job; it must not wait for anything."""


class NoMirrors:
    """Of disks that nobody has open, or that are not copied."""

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, key: str | None) -> None:
        for disk in disks:
            raise MonitorError(f"{disk} is open nowhere")

    def jobs(self) -> list[dict[str, Any]]:
        return []

    def finish(self) -> None:
        """There is none."""

    def abandon(self) -> None:
        """There is none."""

    def tell(self, changed: Callable[[], None]) -> None:
        """Nothing ever changes."""
