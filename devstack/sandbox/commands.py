"""Runs a command and says what it wrote when it fails."""

from __future__ import annotations

import os
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


def _words(command: tuple[str | Path, ...]) -> str:
    return " ".join(str(word) for word in command)
