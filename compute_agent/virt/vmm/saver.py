"""A stopped machine on its way to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

Write = Callable[[BinaryIO, Callable[[int], bool]], None]
"""Writes it all to a file; asks, with the bytes of memory written so far, whether to go on."""


class Saving:
    """A `compute_agent.virt.vmm.carrier.Load`."""

    holds_still = True

    def __init__(self, fd: int, total: int, write: Write, saved: Callable[[], None]) -> None:
        """It owns the descriptor.

        :param total: bytes of memory; `saved` is called when all of it is written.
        """
        self._fd = fd
        self._total = total
        self._write = write
        self._saved = saved
        self._written = 0
        self._is_cancelled = False

    def carry(self) -> None:
        with os.fdopen(self._fd, "wb") as file:
            self._write(file, self._goes_on)
        self._saved()

    def cancel(self) -> None:
        self._is_cancelled = True

    def describe(self) -> Mapping[str, object]:
        return {"ram": {"transferred": self._written, "total": self._total}}

    def _goes_on(self, written: int) -> bool:
        self._written = written
        return not self._is_cancelled
