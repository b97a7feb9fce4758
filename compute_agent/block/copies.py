"""Copies of the disks of a guest that runs: what whoever has them open offers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from compute_agent.instance.devices import FileSource, NbdSource


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskCopy:
    """One disk that is to be copied."""

    disk: str
    target: FileSource | NbdSource
    """Empty and as large as the disk; nobody else has it open meanwhile."""
    since: str | None = None
    """Copy only what has been written since this mark was made."""
    mark: str | None = None
    """From the copy's moment on, what is written to the disk is remembered under this name, where the disk can."""


class DiskCopies(Protocol):
    """One set of copies at a time. Each verb may be repeated after a crash."""

    def begin(self, name: str, copies: Sequence[DiskCopy]) -> bool | None:
        """Begin to copy disks as they all are at this moment; the guest goes on.

        True: its file systems were frozen for that moment, by its guest agent. None: copies of this name have begun
        before, and nothing happens.

        :raises MonitorError: a target cannot be opened, or a mark is not there; nothing has begun.
        """

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        """Have something done to the disks by somebody else, with the guest's file systems frozen if its agent does it.

        True: they were frozen all the time that `act` took. However long that is, they thaw in time.
        """

    def progress(self, name: str, seconds: float) -> int:
        """Percent; 100 when all is copied, for which this waits up to `seconds`.

        :raises MonitorError: a disk could not be copied, or nothing of this name has begun.
        """

    def end(self) -> None:
        """Let go of the targets; what is not copied yet never will be. Nothing happens where there are no copies.

        :raises DeadlineExceeded: a disk or a target does not answer.
        """

    def marks(self, disk: str) -> set[str]:
        """The names of all marks since which it is known what was written to a disk."""

    def forget_marks(self, disk: str, keep: Collection[str]) -> None:
        """All but these."""
