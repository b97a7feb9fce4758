"""What storage and network hand over to virt: enough to give a guest its disks and NICs, and no more."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk that is ready to be opened by a guest's process."""

    name: str
    """``disk0``, ``disk1``, … in the order of the instance's block devices; ``config`` for the config drive."""
    path: Path
    format: Literal["qcow2", "raw"]
    backing: Disk | None = None
    """The read-only image that a qcow2 overlay stands on."""
    read_only: bool = False
    serial: str = ""
    """At most 20 characters: what the guest sees in /dev/disk/by-id."""
    boot_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFiles:
    """Local paths of the files that a direct boot starts from."""

    kernel: Path
    ramdisk: Path | None
    command_line: str


@dataclass(slots=True, kw_only=True)
class Nic:
    """A plugged port: open descriptors that belong to the holder, who closes them."""

    name: str
    """``net0``, ``net1``, … in the order of the instance's ports."""
    mac_address: str
    mtu: int
    tap_fds: tuple[int, ...]
    """One a queue pair."""
    vhost_fds: tuple[int, ...] = ()
    """One a queue pair, or none where the host has no vhost-net."""
    _closed: bool = field(default=False, repr=False)

    def close(self) -> None:
        """Let go of the descriptors; a process that inherited them keeps its own. May be repeated."""
        if not self._closed:
            self._closed = True
            for fd in (*self.tap_fds, *self.vhost_fds):
                os.close(fd)
