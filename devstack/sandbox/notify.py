"""Awaits a service's own word that it is ready: systemd's protocol, spoken by RabbitMQ and by the agent."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sandbox.commands import SandboxError

_LONGEST_MESSAGE = 4096
_LOOK_AGAIN = 0.2
"""Seconds between looks at whether the process is still there."""


class Process(Protocol):
    """What a sandbox has to know of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class Readiness:
    """A datagram socket on which a service says ``READY=1``."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """A service that says more is told that nobody listens."""
        self._socket.close()

    def wait(self, process: Process, seconds: float, log: Path) -> None:
        """Return as soon as `process` is ready.

        :raises SandboxError: it ended, or was not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not self._told_ready():
            if process.poll() is not None:
                raise SandboxError(f"ended with status {process.returncode} instead of starting\n{tail(log)}")
            if time.monotonic() > deadline:
                raise SandboxError(f"not ready after {seconds:g} s\n{tail(log)}")

    def _told_ready(self) -> bool:
        readable, _, _ = select.select([self._socket], [], [], _LOOK_AGAIN)
        return bool(readable) and b"READY=1" in self._socket.recv(_LONGEST_MESSAGE).splitlines()


class ReadySocket(Readiness):
    """The one that a service finds in NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._socket.bind(str(path))

    def close(self) -> None:
        """Remove the socket, too."""
        super().close()
        self.path.unlink(missing_ok=True)


class ReadyPort(Readiness):
    """For a service on another machine: a UDP port."""

    def __init__(self, address: str) -> None:
        super().__init__(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((address, 0))
        self.port: int = self._socket.getsockname()[1]


def tail(log: Path, lines: int = 30) -> str:
    """The end of a log file, or nothing where there is none."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def wait_for_end(process: Process, seconds: float) -> int:
    """The exit status of a process that has been told to end.

    :raises SandboxError: it did not; it has been killed.
    """
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise SandboxError(f"process {process.pid} did not end within {seconds:g} s of being told to") from error
