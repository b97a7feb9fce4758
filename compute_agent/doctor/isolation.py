"""Can guests' processes be kept apart? One is started as guests are, and tells what it has become."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.errors import ComputeAgentError
from compute_agent.host.confinement.launcher import Confinement, Launcher
from compute_agent.virt.settings import GUEST_UIDS, VirtSettings

DEADLINE = 30.0
"""Seconds; it takes a fifth of one, or some where the host itself is emulated."""

_WITNESS = ("/usr/bin/cat", "/proc/self/status")
_WITNESS_SECONDS = 10.0
_NOT_IN_A_CONTAINER = "run the agent on the host itself, not in a container; sysctl -a | grep max_.*_namespaces"


def check_isolation(settings: VirtSettings) -> list[Finding]:
    """Start a process as a guest's is started, with a user that no guest has."""
    if os.geteuid() != 0:
        return [failure("isolation", f"user {os.geteuid()} is not root; the agent has to be", "sudo computectl doctor")]
    if not settings.confine_guests:
        found = "[virt] confine_guests is false: guests' processes run as root"
        return [warning("isolation", found, "set [virt] confine_guests = true")]
    uid = settings.guest_uid_base + GUEST_UIDS - 1
    try:
        return [judge_isolation(uid, _confess(uid))]
    except (OSError, ComputeAgentError) as error:
        return [failure("isolation", f"no confined process can be started: {error}", _NOT_IN_A_CONTAINER)]


def judge_isolation(uid: int, status: str) -> Finding:
    """`status` is what /proc/self/status was to the process that should be user `uid` without any privilege."""
    fields = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
    expected = {
        "Uid": "\t".join([str(uid)] * 4),
        "CapPrm": f"{0:016x}",
        "CapBnd": f"{0:016x}",
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    wrong = [f"{name} {fields.get(name, 'unknown')}" for name, value in expected.items() if fields.get(name) != value]
    if wrong:
        return failure("isolation", f"a confined process has {', '.join(wrong)}", _NOT_IN_A_CONTAINER)
    return ok("isolation", "a user, namespaces and a system call filter of its own for each guest, no capabilities")


def _confess(uid: int) -> str:
    answer = os.memfd_create("confession")
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-") as directory:
            launcher = Launcher(Path(directory) / "lock")
            try:
                process = launcher.spawn(_WITNESS, {}, pass_fds=[], log_fd=answer, confinement=Confinement(uid=uid))
                if not process.wait(_WITNESS_SECONDS):
                    process.kill()
            finally:
                launcher.close()
        return os.pread(answer, 65536, 0).decode()
    finally:
        os.close(answer)
