"""Processes that outlive the agent, each held by a pidfd.

A pid may be given to another process as soon as the first has ended; a pidfd never is. So nothing
here signals or watches a bare number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_SYS_PIDFD_GETFD = 438
"""The number is the same on every architecture; Python has no wrapper for it."""


_EXECUTED_WITHIN = 0.1
_LOOK_AGAIN = 0.002
"""Seconds."""


class Child(Protocol):
    """Whose exit status can be had, once."""

    returncode: int | None

    def wait(self) -> int: ...


class ForkedChild:
    """A child of ours that `subprocess` has not started."""

    def __init__(self, pid: int) -> None:
        self.returncode: int | None = None
        self._pid = pid
        self._lock = threading.Lock()

    def wait(self) -> int:
        """Reap it, and remember its exit status (below 0: the signal that ended it)."""
        with self._lock:
            if self.returncode is None:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            return self.returncode


class _Pidfd:
    """Closed with the last reference: never under the feet of a thread that uses it."""

    def __init__(self, number: int) -> None:
        self.number = number
        weakref.finalize(self, os.close, number)


class Process:
    """One process, our child or not. Its pidfd is closed by `release`, or with the last reference."""

    def __init__(self, pid: int, pidfd: int, child: Child | None = None) -> None:
        self.pid = pid
        self._pidfd: _Pidfd | None = _Pidfd(pidfd)
        self._child = child

    @classmethod
    def spawn(
        cls, arguments: Sequence[str], environment: Mapping[str, str], *, pass_fds: Sequence[int], log_fd: int
    ) -> Process:
        """Start a program in a session of its own: neither our death nor our terminal's signals reach it.

        :raises OSError: the program cannot be executed.
        """
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        return cls(child.pid, os.pidfd_open(child.pid), child)

    def __str__(self) -> str:
        return f"process {self.pid}"

    @property
    def pidfd(self) -> int:
        """Readable from its end on.

        :raises ProcessLookupError: it has ended, and was released.
        """
        return self._held().number

    def has_ended(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, and reap it if it is ours: True, or False at the deadline."""
        if (pidfd := self._pidfd) is None:
            return True
        poll = select.poll()
        poll.register(pidfd.number, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
        if ended and self._child is not None:
            self._child.wait()
        return ended

    def kill(self) -> None:
        """Send SIGKILL. Nothing happens to a process that has ended."""
        with contextlib.suppress(ProcessLookupError):
            pidfd = self._held()
            signal.pidfd_send_signal(pidfd.number, signal.SIGKILL)

    def release(self) -> None:
        """It has been seen to end: close the pidfd, whoever still refers to this process.

        Errors keep the frames that they passed through, and what those refer to, until somebody collects the garbage.
        """
        self._pidfd = None

    def exit_reason(self) -> str:
        """How it ended, for a person."""
        status = self._child.returncode if self._child is not None else None
        if status is None:
            return "ended (only the agent that started it could have read its exit status)"
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"

    def copy_descriptor(self, number: int) -> int:
        """Our own descriptor of the file that it has open as `number`; both share one file position.

        :raises OSError: it has no such descriptor, has ended, or the kernel forbids it (ptrace rules).
        """
        pidfd = self._held()
        copy = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd.number, number, 0)
        if copy < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), f"descriptor {number} of {self}")
        return int(copy)

    def _held(self) -> _Pidfd:
        if (pidfd := self._pidfd) is None:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(self))
        return pidfd


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """A process in /proc, looked at without holding it: it may end, and its number pass on, at any time."""

    pid: int

    @property
    def uid(self) -> int | None:
        """Its user; None where it has ended."""
        try:
            return self._path.stat().st_uid
        except OSError:
            return None

    @property
    def program(self) -> str | None:
        """The path of what it executes; None for a thread of the kernel, and where it has ended."""
        try:
            return str((self._path / "exe").readlink())
        except OSError:
            return None

    @property
    def parent(self) -> int | None:
        """The pid of who has to reap it; None where it has ended."""
        try:
            return int((self._path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return None

    def variable(self, name: str) -> str | None:
        """From the environment that its program was started with; None where it has none of that name, or has ended."""
        try:
            variables = os.fsdecode(self._environment()).split("\0")
        except OSError:
            return None
        found = (value.removeprefix(f"{name}=") for value in variables if value.startswith(f"{name}="))
        return next(found, None)

    def _environment(self) -> bytes:
        """Not there yet in a program that is only just being executed: such a one is looked at again."""
        deadline = time.monotonic() + _EXECUTED_WITHIN
        while not (environment := (self._path / "environ").read_bytes()) and time.monotonic() < deadline:
            (self._path / "exe").readlink()  # a thread of the kernel, which has none, raises OSError
            time.sleep(_LOOK_AGAIN)
        return environment

    @property
    def _path(self) -> Path:
        return Path("/proc") / str(self.pid)


def process_entries() -> Iterator[ProcessEntry]:
    """All processes of this host."""
    return (ProcessEntry(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def find_processes(recognise: Callable[[ProcessEntry], str | None]) -> dict[str, Process]:
    """Every process that `recognise` gives a key to, by that key."""
    found = {}
    for candidate in process_entries():
        key = recognise(candidate)
        process = _hold(candidate, key, recognise) if key else None
        if key and process:
            found[key] = process
    return found


def _hold(entry: ProcessEntry, key: str, recognise: Callable[[ProcessEntry], str | None]) -> Process | None:
    """Take the pidfd, then look again: the number may have passed to another process in between."""
    try:
        process = Process(entry.pid, os.pidfd_open(entry.pid))
    except ProcessLookupError:
        return None
    return process if recognise(entry) == key and not process.has_ended() else None
