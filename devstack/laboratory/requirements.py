"""What a lab needs of the machine, looked at before anything is started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from laboratory.settings import MOST_HOSTS, HostSettings
from sandbox.commands import SandboxError

_PROGRAMS = {
    "busybox": "busybox-static",
    "cpio": "cpio",
    "dropbear": "dropbear-bin",
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "nsenter": "util-linux",
    "ovs-vswitchd": "openvswitch-switch",
    "qemu-system-x86_64": "qemu-system-x86",
    "socat": "socat",
    "ssh": "openssh-client",
    "start-stop-daemon": "dpkg",
    "/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server",
}
"""Where each is missing, the Debian package that has it."""
_SYSTEM_PATH = ":/usr/sbin:/sbin"
_TUN = Path("/dev/net/tun")


def require_root() -> None:
    """:raises SandboxError: whoever runs this is not root."""
    if os.geteuid() != 0:
        raise SandboxError("needs root, to make namespaces, taps and bridges")


def require_all(hosts: int, settings: HostSettings) -> None:
    """:raises SandboxError: something is missing; all of it is named."""
    if not 1 <= hosts <= MOST_HOSTS:
        raise SandboxError(f"{hosts} hosts: it can be 1 to {MOST_HOSTS}")
    require_root()
    missing = [*_missing_programs(), *_missing_memory(hosts * settings.memory_mib)]
    if not _TUN.exists():
        missing.append(f"{_TUN}: the kernel's module tun")
    if missing:
        raise SandboxError("this machine lacks\n" + "\n".join(f"  {one}" for one in missing))


def _missing_programs() -> list[str]:
    path = os.environ.get("PATH", os.defpath) + _SYSTEM_PATH
    return [
        f"{program}: apt-get install {package}"
        for program, package in _PROGRAMS.items()
        if shutil.which(program, path=path) is None
    ]


def _missing_memory(needed_mib: int) -> list[str]:
    (available,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")]
    available_mib = int(available.split()[1]) // 1024
    return (
        [f"memory: the hosts need {needed_mib} MiB, {available_mib} MiB are free"] if needed_mib > available_mib else []
    )
