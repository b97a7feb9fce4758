"""Programs in a lab that is up: in its hosts, on their consoles, and beside them in its network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from laboratory import ssh
from laboratory.record import Record
from sandbox.commands import SandboxError

_LEAVE_CONSOLE = "0x1d"
_ANSWER_TIMEOUT = 10
_AGENT_RUNS = ("start-stop-daemon", "--status", "--pidfile", "/run/compute-agent.pid")


def require_host(lab: Record, host: str) -> None:
    """:raises SandboxError: the lab has no such host."""
    if host not in lab.hosts:
        raise SandboxError(f"no host {host!r}; there are {', '.join(lab.hosts)}")


def run(lab: Record, host: str, command: tuple[str, ...]) -> int:
    """Run a command, or a shell, with this program's own streams; its exit status."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    words = ssh.command_line(Path(lab.directory), host, command or ("bash",), "-t" if terminal else "-T")
    return subprocess.run([*_door(lab, "--mount", "--pid", "--net"), *words]).returncode


def open_console(lab: Record, host: str) -> int:
    """The host's serial console, until Ctrl-]."""
    print(f"console of {host}; Ctrl-] leaves it, Enter shows the prompt")
    terminal = f"STDIO,raw,echo=0,escape={_LEAVE_CONSOLE}" if sys.stdin.isatty() else "STDIO"
    return subprocess.run(["socat", terminal, f"UNIX-CONNECT:{lab.directory}/{host}/console"]).returncode


def open_shell(lab: Record) -> int:
    """A shell on the hosts' network, in which ``computectl --host HOST`` and ``lab`` work."""
    programs = [str(Path(sys.executable).parent), str(Path(__file__).parents[1])]
    environment = {
        "PATH": ":".join([*programs, os.environ.get("PATH", os.defpath)]),
        "PYTHON": sys.executable,
        "COMPUTECTL_TRANSPORT_URL": lab.transport_url,
    }
    return subprocess.run([*_door(lab, "--net"), "bash"], env=os.environ | environment).returncode


def state_of(lab: Record, host: str) -> str:
    """In words: whether it answers, and its agent runs."""
    words = ssh.command_line(Path(lab.directory), host, _AGENT_RUNS, "-o", f"ConnectTimeout={_ANSWER_TIMEOUT}")
    try:
        done = subprocess.run(
            [*_door(lab, "--mount", "--pid", "--net"), *words], capture_output=True, timeout=2 * _ANSWER_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return "does not answer"
    if done.returncode == ssh.FAILED:
        return "does not answer"
    return "up, its agent runs" if done.returncode == 0 else "up, its agent does not run"


def _door(lab: Record, *namespaces: str) -> list[str]:
    return ["nsenter", "--target", str(lab.first_process), *namespaces, "--"]
