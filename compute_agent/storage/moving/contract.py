"""What moves disks that exist on one host only to another. Each verb may be repeated after a crash."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from compute_agent.block.mirrors import DiskMirrors
from compute_agent.instance.model import Instance

Progress = Callable[[int], None]
"""Called now and then with the percentage that is done; what it raises ends the copying."""


class FileMoves(Protocol):
    """Files that nobody writes to, of disks that are copied (see `compute_agent.storage.contract.DiskMoves`).

    A file is called after its disk, ``disk0``, and after the snapshot since which it has what was written:
    ``disk0.<snapshot>``.
    """

    def all_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        """The names of all files of an instance that does not run, each after what it stands on."""

    def lower_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        """Those that a guest that runs only reads: all but the newest of each disk."""

    def send(
        self, instance: Instance, files: Sequence[str], connection: socket.socket, bandwidth: int, progress: Progress
    ) -> None:
        """To a host that is receiving; when this returns they are there, and last. `bandwidth`: bytes a second, or 0.

        :raises StorageError: they are not.
        """

    def receive(self, instance: Instance, files: Sequence[str], connection: socket.socket) -> None:
        """Keep them beside those that were made here, which they will replace; the sender gets to know.

        :raises StorageError: they are not what they should be, or the connection has ended early.
        :raises InsufficientResources: there is no room for them.
        """

    def has_all(self, instance: Instance, files: Sequence[str]) -> bool:
        """All of these have come in."""

    def take(self, instance: Instance) -> None:
        """What has come in is the instance's from now on."""


class ServedMoves(Protocol):
    """Those that a block server has open for a guest that runs, or that waits for what comes in.

    All raise StorageError where the server refuses or has ended, and DeadlineExceeded.
    """

    @property
    def mirrors(self) -> DiskMirrors:
        """Their way to another host."""

    def let_in(self, disks: Sequence[str], address: str, ports: range, key: str | None) -> int:
        """Let whoever knows the key, 32 bytes in hexadecimal, write to these disks; None: whoever comes.

        The first of `ports` that is free on `address`, where they are waited for. Who was let in before is cut off.
        """

    def shut(self) -> None:
        """Nobody else writes to the disks any more."""
