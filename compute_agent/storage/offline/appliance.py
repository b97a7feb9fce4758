"""A guestfish in a room of its own: the file systems of strangers are read by it, never by us.

Its process has no network, a process namespace of its own, the user `nobody`, no capability, and ends with us. Its
virtual machine is emulated: slower than KVM by seconds, and no device of the host is open to it.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from compute_agent.errors import DeadlineExceeded, StorageError

PROGRAM = "guestfish"
PACKAGE = "guestfish"

WORK = "work"
"""The directory beside the disk that belongs to `user`."""

_MEMORY = 8 * 1024**3
"""Bytes of address space, of each of its processes: QEMU's own takes 3 GiB."""
_LARGEST_ANSWER = 4 * 1024**2
"""Bytes: answers are what strangers wrote, too."""
_KILLED_WITHIN = 10.0
"""Seconds."""
_ERROR = re.compile(r"(?:\*stdin\*:\d+: )?libguestfs: error: (.*)")
_KERNEL = ("SUPERMIN_KERNEL", "SUPERMIN_MODULES")
"""Variables that name the appliance's kernel where the host's own is not in /boot or cannot be read."""

# Each ends with its parent. That has to be asked for again after the user has changed, which forgets it.
_CONFINEMENT = (
    "setpriv --pdeathsig KILL unshare --net --ipc --uts --pid --mount --fork --kill-child --mount-proc "
    "setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "
    "--pdeathsig KILL prlimit --as={memory} --core=0"
)


def user() -> pwd.struct_passwd:
    """Whom the appliance runs as."""
    return pwd.getpwnam("nobody")


class Appliance:
    """One disk in a running guestfish: a context manager. Everything has to be over by `deadline` (time.monotonic)."""

    def __init__(
        self, disk: Path, disk_format: Literal["qcow2", "raw"], deadline: float, *, read_only: bool = True
    ) -> None:
        """`disk` is a file of `user`, beside a directory `WORK`; its format is given, never probed."""
        self._disk = disk
        self._format = disk_format
        self._deadline = deadline
        self._read_only = read_only
        self._received = b""

    def __enter__(self) -> Appliance:
        """Start it, which takes seconds.

        :raises StorageError: it is not installed, or does not start.
        :raises DeadlineExceeded: it has not started.
        """
        if shutil.which(PROGRAM) is None:
            raise StorageError(f"{PROGRAM} is not installed: it is in the package {PACKAGE}")
        self._process = self._start()
        try:
            self.ask("run")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def ask(self, command: str, *arguments: str) -> list[str]:
        """The lines that it answers.

        :raises StorageError: it refuses, or has ended.
        :raises DeadlineExceeded: there is no answer yet.
        """
        end = secrets.token_hex(16)  # nobody who wrote to the disk knows it
        line = " ".join([f"-{command}", *map(_quote, arguments)])
        self._send(f"{line}\necho {end}\n")
        lines = self._receive(f"{end}\n".encode())
        for answer in lines:
            if found := _ERROR.match(answer):
                raise StorageError(f"{command}: {found[1]}")
        return lines

    def find(self, command: str, *arguments: str) -> list[str] | None:
        """The same; None where it refuses."""
        try:
            return self.ask(command, *arguments)
        except StorageError:
            if self._process.poll() is not None:
                raise
            return None

    def finish(self) -> None:
        """Have all that was written on the disk."""
        self.ask("umount-all")
        self.ask("shutdown")
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"{PROGRAM} has not ended in time") from error

    def _start(self) -> subprocess.Popen[bytes]:
        nobody, room = user(), str(self._disk.parent / WORK)
        confinement = _CONFINEMENT.format(uid=nobody.pw_uid, gid=nobody.pw_gid, memory=_MEMORY)
        access = ["--ro"] if self._read_only else ["--rw"]
        return subprocess.Popen(
            [*confinement.split(), PROGRAM, *access, f"--format={self._format}", "-a", str(self._disk)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=room,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "LC_ALL": "C.UTF-8",
                "HOME": room,
                "TMPDIR": room,
                "XDG_RUNTIME_DIR": room,
                "LIBGUESTFS_CACHEDIR": room,
                "LIBGUESTFS_BACKEND": "direct",
                "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg",
                **{name: os.environ[name] for name in _KERNEL if name in os.environ},
            },
        )

    def _send(self, text: str) -> None:
        try:
            _pipe(self._process.stdin).write(text.encode())
            _pipe(self._process.stdin).flush()
        except BrokenPipeError as error:
            raise StorageError(f"{PROGRAM} has ended: {self._last_words()}") from error

    def _receive(self, end: bytes) -> list[str]:
        out = _pipe(self._process.stdout).fileno()
        while end not in self._received:
            if not select.select([out], [], [], max(0.0, self._deadline - time.monotonic()))[0]:
                raise DeadlineExceeded(f"{PROGRAM} has not answered in time")
            chunk = os.read(out, 65536)
            if not chunk or len(self._received) > _LARGEST_ANSWER:
                raise StorageError(f"{PROGRAM} has ended, or answers too much: {self._last_words()}")
            self._received += chunk
        answer, _, self._received = self._received.partition(end)
        return answer.decode(errors="replace").splitlines()

    def _last_words(self) -> str:
        lines = self._received.decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it has said nothing"

    def _kill(self) -> None:
        """The others of its process namespace go with the first; ``unshare``, which waits for that one, ends last."""
        pid = self._process.pid
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
        try:
            self._process.communicate(timeout=_KILLED_WITHIN)
        except (subprocess.TimeoutExpired, ValueError, OSError):  # the last two: its input is closed, or broken
            self._process.kill()
        finally:
            self._process.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _quote(argument: str) -> str:
    """As guestfish reads it: a line is a command, and one that begins with ``!`` would be a shell's."""
    if any(ord(character) < ord(" ") for character in argument):
        raise StorageError(f"{argument!r}: control characters cannot be passed to {PROGRAM}")
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
