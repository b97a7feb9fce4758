"""Control groups, version 2 (the kernel's Documentation/admin-guide/cgroup-v2.rst): what a process may take."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

from compute_agent.errors import HostError

CONTROLLERS = ("cpu", "io", "memory", "pids")
_EMPTIED_WITHIN = 2.0
"""Seconds from the end of its last process until a group can be removed."""
_LOOK_AGAIN = 0.005


class CgroupParent:
    """The group that holds one for each instance: one directory, directly below a cgroup v2 file system's root."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.controllers = self._enable() if (path.parent / "cgroup.controllers").exists() else frozenset[str]()
        """Those that can limit processes; none where this host has no cgroup v2 there."""

    def create(self, name: str, limits: Iterable[tuple[str, str]]) -> int:
        """Make the group, or find it, and limit it.

        :return: a descriptor for `confinement`, which puts a process into the group; to be closed by the caller.
        :raises HostError: names the limit that the kernel refuses.
        """
        (self._path / name).mkdir(exist_ok=True)
        self.limit(name, limits)
        return os.open(self._path / name / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def limit(self, name: str, limits: Iterable[tuple[str, str]]) -> None:
        """Set limits of a group, as far as there are controllers for them: ``[("memory.max", "1048576"), …]``.

        :raises HostError: names the limit that the kernel refuses.
        """
        for file, value in limits:
            path = self._path / name / file
            try:
                if file.partition(".")[0] in self.controllers:
                    path.write_text(value)
            except OSError as error:
                raise HostError(f"cgroup {path.parent}: {file} = {value!r}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Remove the group, whose processes have ended. Nothing happens where there is none.

        :raises HostError: a process is in it.
        """
        deadline = time.monotonic() + _EMPTIED_WITHIN
        with contextlib.suppress(FileNotFoundError):
            while not self._removed(self._path / name):
                if time.monotonic() > deadline:
                    raise HostError(f"cgroup {self._path / name} has processes in it")
                time.sleep(_LOOK_AGAIN)

    def names(self) -> set[str]:
        """Of the groups in it."""
        return {entry.name for entry in self._path.iterdir() if entry.is_dir()} if self.controllers else set()

    def _enable(self) -> frozenset[str]:
        try:
            self._path.mkdir(exist_ok=True)
            offered = (self._path.parent / "cgroup.controllers").read_text().split()
            wanted = [name for name in CONTROLLERS if name in offered]
            for directory in (self._path.parent, self._path):
                (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
        except OSError as error:
            raise HostError(f"cgroup {self._path} cannot be used: {error.strerror}") from error
        return frozenset(wanted)

    @staticmethod
    def _removed(group: Path) -> bool:
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True
