"""Commands in the hosts, over one lasting ssh connection to each."""

from __future__ import annotations

import shlex
from pathlib import Path

from laboratory.settings import host_address, host_name
from sandbox.commands import run

FAILED = 255
"""The status of ssh itself where it could not reach the host."""
_COMMON = """\
Host *
    User root
    IdentityFile {directory}/key
    IdentitiesOnly yes
    BatchMode yes
    UserKnownHostsFile {directory}/known-hosts
    StrictHostKeyChecking accept-new
    HostKeyAlias lab
    LogLevel ERROR
    ServerAliveInterval 10
    ControlMaster auto
    ControlPersist yes
    ControlPath {directory}/ssh-%n
"""


def prepare(directory: Path, hosts: int) -> None:
    """Write keys, and the client's configuration."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", directory / "key")
    run("dropbearkey", "-t", "ed25519", "-f", directory / "host-key")
    names = [f"Host {host_name(number)}\n    HostName {host_address(number)}\n" for number in range(1, hosts + 1)]
    _config(directory).write_text("".join([*names, _COMMON.format(directory=directory)]))


def command_line(directory: Path, host: str, command: tuple[str, ...], *options: str) -> list[str]:
    """The ssh command that runs `command` in a host, with the agent's programs in its PATH."""
    settings = shlex.quote(str(directory / host / "settings"))
    return ["ssh", "-F", str(_config(directory)), *options, host, f". {settings}; exec {shlex.join(command)}"]


def disconnect(directory: Path, host: str) -> None:
    """Forget the connection to a host that is gone."""
    if (directory / f"ssh-{host}").exists():
        run("ssh", "-F", _config(directory), "-O", "exit", host)


def _config(directory: Path) -> Path:
    return directory / "ssh-config"
