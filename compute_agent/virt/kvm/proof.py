"""Shows that KVM runs a 64-bit guest here, and what an exit from it costs.

A KVM that does not work may never return from KVM_RUN, or end the process that asked. So a child does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.host.processes import Process
from compute_agent.virt.kvm.device import KVM_DEVICE

_TRIAL = "compute_agent.virt.kvm.trial"
_DEATH = 1.0
"""Seconds that the kernel has to end a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the guest showed."""

    exit_nanoseconds: float
    """Median of `exits` exits, from Python into the guest and back: the ioctl through cffi is part of it."""
    exits: int
    turn_nanoseconds: float
    """What a turn of four instructions took inside the guest: a processor needs some, who emulates it thousands."""


def prove(device: Path = KVM_DEVICE, seconds: float = 5.0) -> Proof:
    """Run a guest of some bytes in long mode, in a process of its own that is killed at the deadline.

    :param seconds: for all of it, the start of the process included.
    :raises KvmError: the device cannot be used, or the guest did not do what it should; says which, and what KVM said.
    """
    log = os.memfd_create("kvm-trial")
    try:
        ending = _run_trial(device, seconds, log)
        lines = os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace").splitlines()
    finally:
        os.close(log)
    return _read(lines[-1] if lines else "", ending)


def _run_trial(device: Path, seconds: float, log: int) -> str:
    """How the process ended."""
    begun = time.monotonic()
    command = [sys.executable, "-I", "-m", _TRIAL, str(device), str(seconds + _DEATH)]
    try:
        process = Process.spawn(command, {}, pass_fds=(), log_fd=log)
    except OSError as error:
        raise KvmError("the process that runs the guest cannot be started", error.strerror) from error
    if process.wait(max(0.0, begun + seconds - time.monotonic())):
        return process.exit_reason()
    process.kill()
    process.wait(_DEATH)
    raise KvmError(f"no answer in {seconds:g} s")


def _read(last_line: str, ending: str) -> Proof:
    try:
        answer = json.loads(last_line)
    except ValueError as error:
        raise KvmError(f"the process that runs the guest {ending}: {last_line or 'it said nothing'}") from error
    if "error" in answer:
        raise KvmError(answer["error"])
    return Proof(**answer)
