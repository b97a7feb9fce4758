"""What storage and network hand over to virt: enough to give a guest its disks and NICs, and no more."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.wire import Aio, CacheMode, DetectZeroes, DiskBus


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A local file with a disk's content."""

    path: Path
    format: Literal["qcow2", "raw"]
    backing: FileSource | None = None
    """What a qcow2 overlay stands on; only read."""
    layer: str | None = None
    """The snapshot since which the overlay has what was written; None: this is the disk's first file, or its image."""
    compressed: bool = False
    """A copy is compressed when it is written here."""


@dataclass(slots=True, kw_only=True)
class Connection:
    """To a disk's server; it belongs to the holder, who closes it."""

    fd: int
    """A connected stream socket on which nothing has been said yet."""
    _closed: bool = field(default=False, repr=False)

    def close(self) -> None:
        """Let go of the connection; a process that inherited it keeps its own. May be repeated."""
        if not self._closed:
            self._closed = True
            os.close(self.fd)


@dataclass(slots=True, kw_only=True)
class NbdSource(Connection):
    """A disk that a server passes on raw."""

    export: str
    """The server's name for the disk."""

    def twin(self) -> NbdSource:
        """The same connection, for somebody who closes it himself."""
        return NbdSource(export=self.export, fd=os.dup(self.fd))

    def cut(self) -> None:
        """End the connection for all who have it, also those who wait for something on it."""
        with socket.socket(fileno=os.dup(self.fd)) as connection, suppress(OSError):  # it may have ended
            connection.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True, kw_only=True)
class VhostUserSource(Connection):
    """A disk whose requests a server takes out of the guest's own memory: a virtio block device (vhost-user-blk).

    All that is said of a disk here but its name, its place among the disks to boot from and that it is read-only, is
    the server's to do. It has no way to do one thing: the guest sees no serial number (qemu-storage-daemon 7.2 tells
    the same one of every disk).
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk that is ready to be opened by a guest's process."""

    name: str
    """``disk0``, ``disk1``, … for the instance's block devices; ``config`` for the config drive."""
    source: FileSource | NbdSource | VhostUserSource
    read_only: bool = False
    serial: str = ""
    """At most 20 characters: what the guest sees in /dev/disk/by-id."""
    boot_index: int | None = None
    bus: DiskBus = "virtio"
    cache: CacheMode = "writeback"
    aio: Aio = "threads"
    discard: bool = True
    """The guest's discards free space."""
    detect_zeroes: DetectZeroes = "off"
    queues: int | None = None
    """As many as the guest has vCPUs, where it is not said."""
    qos: DiskQos | None = None
    passphrase: bytes | None = field(default=None, repr=False)
    """Opens the LUKS container that the source holds."""

    @property
    def is_served(self) -> bool:
        """A block server has it open, not the guest's process."""
        return isinstance(self.source, Connection)

    def close(self) -> None:
        """Let go of what is open; a process that inherited it keeps its own. May be repeated."""
        if isinstance(self.source, Connection):
            self.source.close()


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
