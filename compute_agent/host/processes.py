"""Processes that outlive the agent, each held by a pidfd.

A pid may be given to another process as soon as the first has ended; a pidfd never is. So nothing
here signals or watches a bare number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

_SYS_PIDFD_GETFD = 438
"""The number is the same on every architecture; Python has no wrapper for it."""


class Process:
    """One process, our child or not. Its pidfd is closed with the last reference, never under a user's feet."""

    def __init__(self, pid: int, pidfd: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._child = child
        weakref.finalize(self, os.close, pidfd)

    @classmethod
    def spawn(cls, arguments: Sequence[str], *, pass_fds: Sequence[int], log_fd: int) -> Process:
        """Start a program in a session of its own: neither our death nor our terminal's signals reach it.

        :raises OSError: the program cannot be executed.
        """
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            cwd="/",
            start_new_session=True,
            pass_fds=pass_fds,
        )
        return cls(child.pid, os.pidfd_open(child.pid), child)

    def __str__(self) -> str:
        return f"process {self.pid}"

    def has_ended(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, and reap it if it is ours: True, or False at the deadline."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
        if ended and self._child is not None:
            self._child.wait()
        return ended

    def kill(self) -> None:
        """Send SIGKILL. Nothing happens to a process that has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

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
        copy = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, self.pidfd, number, 0)
        if copy < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), f"descriptor {number} of {self}")
        return int(copy)


def find_processes(recognise: Callable[[list[str]], str | None]) -> dict[str, Process]:
    """Every process of our user whose arguments `recognise` gives a key to, by that key.

    Anybody may run a program under arguments that look like ours; nobody else may run it as our user.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            key = recognise(_arguments(entry))
            process = _hold(entry, key, recognise) if key else None
            if key and process:
                found[key] = process
    return found


def _hold(entry: Path, key: str, recognise: Callable[[list[str]], str | None]) -> Process | None:
    """Take the pidfd, then look again: the number may have passed to another process in between."""
    pid = int(entry.name)
    try:
        process = Process(pid, os.pidfd_open(pid))
    except ProcessLookupError:
        return None
    same = recognise(_arguments(entry)) == key and not process.has_ended()
    return process if same else None


def _arguments(entry: Path) -> list[str]:
    try:
        ours = entry.stat().st_uid == os.geteuid()
        return os.fsdecode((entry / "cmdline").read_bytes()).split("\0")[:-1] if ours else []
    except OSError:
        return []
