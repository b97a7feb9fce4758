"""Runs commands, of which one that fails says what it wrote, and ends processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from sandbox.namespaces import OUTSIDE_NETWORK


class SandboxError(Exception):
    """Something of the sandbox did not come up, go down or get built; the message says what was seen."""


def run(*command: str | Path, seconds: float = 60.0, cwd: Path | None = None, stdin: str | None = None) -> str:
    """What the command wrote to stdout.

    :raises SandboxError: it failed or took longer than `seconds`; with all that it wrote.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=cwd, input=stdin)
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"{_words(command)}: not done after {seconds:g} s") from error
    if done.returncode != 0:
        raise SandboxError(f"{_words(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run_with_internet(*command: str | Path, seconds: float, cwd: Path | None = None) -> str:
    """`run`, in the machine's own network, which the sandbox's processes do not see."""
    outside = os.environ.get(OUTSIDE_NETWORK)
    door = ["nsenter", f"--net={outside}", "--"] if outside else []
    return run(*door, *command, seconds=seconds, cwd=cwd)


def end_process(pid: int, number: signal.Signals = signal.SIGKILL, seconds: float = 10.0) -> None:
    """Send it the signal, and return when it has ended; it need not be a child of this one.

    :raises SandboxError: it has not, in time.
    """
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, number)
        if not select.select([descriptor], [], [], seconds)[0]:
            raise SandboxError(f"process {pid} has not ended after {seconds:g} s")
    finally:
        os.close(descriptor)


def _words(command: tuple[str | Path, ...]) -> str:
    return " ".join(str(word) for word in command)
