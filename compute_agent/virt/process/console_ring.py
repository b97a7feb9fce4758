"""Where QEMU writes a guest's console log: a file in memory that the kernel does not let grow.

QEMU's console backend logs to a descriptor that it inherits. Its open file description is shared with
the agent, and so is its position: the agent reads how far QEMU has written, takes what is new, and
moves the position back to the start before it reaches the end. When nobody does (no agent runs), writes
past the end fail in QEMU, which ignores that: neither disk nor memory fills, and the guest never waits.
What has been taken is overwritten with zeros, so the next agent can tell what has not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from compute_agent.host.processes import Process

RING_SIZE = 256 * 1024
"""Bytes; a busy console writes a few hundred KiB a second."""

_NAME = "guest-console"


class ConsoleRing:
    """The agent's two ends: one shares QEMU's position, the other is its own."""

    def __init__(self, shared: int, own: int) -> None:
        self.shared = shared
        self._own = own
        self._taken = 0

    @classmethod
    def create(cls) -> ConsoleRing:
        """A new one, for a guest that is about to start and inherits `shared`."""
        own = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(own, RING_SIZE)
        fcntl.fcntl(own, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        # Write-only and appending, as QEMU expects what it logs to; see let_write().
        return cls(os.open(f"/proc/self/fd/{own}", os.O_WRONLY | os.O_APPEND), own)

    @classmethod
    def of(cls, process: Process) -> ConsoleRing:
        """The one that a running QEMU writes to.

        :raises OSError: it has none, has ended, or we may not look into it.
        """
        shared = process.copy_descriptor(_number_in(process.pid))
        ring = cls(shared, os.open(f"/proc/self/fd/{shared}", os.O_RDWR))
        ring.let_write()
        ring._taken = ring._first_not_taken()
        return ring

    def let_write(self) -> None:
        """QEMU opens its log for appending, which here means after the end. Undo that, once it has."""
        flags = fcntl.fcntl(self.shared, fcntl.F_GETFL)
        fcntl.fcntl(self.shared, fcntl.F_SETFL, flags & ~os.O_APPEND)

    def take(self) -> bytes:
        """What QEMU has written since the last time."""
        end = min(os.lseek(self.shared, 0, os.SEEK_CUR), RING_SIZE)
        new = self._take(self._taken, end)
        self._taken = end
        return new + self._rewind() if end > RING_SIZE // 2 else new

    def close(self) -> None:
        os.close(self.shared)
        os.close(self._own)

    def _rewind(self) -> bytes:
        """Start over; QEMU may have written more between our look at the position and its move."""
        os.lseek(self.shared, 0, os.SEEK_SET)
        late = self._take(self._taken, RING_SIZE)
        self._taken = 0
        return late.rstrip(b"\0")

    def _take(self, start: int, end: int) -> bytes:
        data = os.pread(self._own, max(end - start, 0), start)
        if data.strip(b"\0"):
            os.pwrite(self._own, bytes(len(data)), start)
        return data

    def _first_not_taken(self) -> int:
        end = os.lseek(self.shared, 0, os.SEEK_CUR)
        return end - len(os.pread(self._own, end, 0).lstrip(b"\0"))


def _number_in(pid: int) -> int:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed: QEMU goes on while we look
            if str(entry.readlink()).startswith(f"/memfd:{_NAME} "):
                return int(entry.name)
    raise FileNotFoundError(f"process {pid} has no console log of ours")
