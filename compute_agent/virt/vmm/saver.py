"""Saving a stopped machine in a thread of its own; asked for and followed as QEMU's migrations are.

Source: QEMU's qapi/migration.json (``migrate`` to ``fd:``, ``query-migrate``, ``migrate_cancel``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import BinaryIO, Literal

from compute_agent.errors import ComputeAgentError, MonitorError
from compute_agent.virt.vmm.process_log import say

Status = Literal["none", "active", "completed", "failed", "cancelled"]
Write = Callable[[BinaryIO, Callable[[int], bool]], None]
"""Writes it all to a file; asks, with the bytes of memory written so far, whether to go on."""


class Saver:
    """One attempt at a time. Safe to be used from several threads."""

    def __init__(self, total: int, saved: Callable[[], None]) -> None:
        """:param total: bytes of memory; `saved` is called, on the thread of the saver, when all of it is written."""
        self._total = total
        self._saved = saved
        self._status: Status = "none"
        self._reason = ""
        self._written = 0
        self._is_cancelled = False
        self._orders: SimpleQueue[tuple[int, Write]] = SimpleQueue()
        threading.Thread(target=self._run, name="saver", daemon=True).start()  # later, none could be started

    @property
    def is_active(self) -> bool:
        """An attempt is under way."""
        return self._status == "active"

    def save(self, fd: int, write: Write) -> None:
        """Begin. It owns the descriptor.

        :raises MonitorError: an attempt is under way; the descriptor is closed.
        """
        if self.is_active:
            os.close(fd)
            raise MonitorError("There's a migration process in progress")
        self._status, self._is_cancelled, self._written = "active", False, 0
        self._orders.put((fd, write))

    def cancel(self) -> None:
        """Let it end soon. Nothing happens where none is under way."""
        self._is_cancelled = True

    def describe(self) -> Mapping[str, object]:
        """For ``query-migrate``."""
        if self._status == "none":
            return {}
        answer: dict[str, object] = {"status": self._status}
        if self._status == "failed":
            answer["error-desc"] = self._reason
        return answer | {"ram": {"transferred": self._written, "total": self._total}}

    def _run(self) -> None:
        while True:
            self._save(*self._orders.get())

    def _save(self, fd: int, write: Write) -> None:
        try:
            with os.fdopen(fd, "wb") as file:
                write(file, self._goes_on)
            self._saved()
            self._status = "completed"
        except InterruptedError:
            self._status = "cancelled"
        except (OSError, ComputeAgentError) as error:
            say(f"The machine was not saved: {error}")
            self._reason, self._status = str(error), "failed"

    def _goes_on(self, written: int) -> bool:
        self._written = written
        return not self._is_cancelled
