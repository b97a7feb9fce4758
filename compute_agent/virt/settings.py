"""What the virt room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GUEST_UIDS = 65536
"""As many guests can run at once."""

HOST_CPU = "host"
"""All that the host has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtSettings:
    """Section ``[virt]``; times in seconds, sizes in bytes."""

    state_dir: Path
    """Survives a reboot of the host: console logs, processes' own logs, saved memory, one directory a guest."""
    run_dir: Path
    """Does not: sockets, one directory a guest."""
    confine_guests: bool = True
    """Each guest's process becomes a user of its own, without privileges and with namespaces and limits; needs root."""
    guest_uid_base: int = 1_900_000_000
    """The first of `GUEST_UIDS` user and group numbers that nobody else on this host may have."""
    cgroup_dir: Path = Path("/sys/fs/cgroup/compute-agent")
    """Holds the guests' control groups; its parent is the root of a cgroup v2 file system, where there is one."""
    hypervisor: Literal["auto", "vmm", "qemu"] = "auto"
    """What runs the guests whose flavors do not say."""
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    cpu_model: str = HOST_CPU
    """Of new guests under KVM, as QEMU's option takes it: a model, and ``,+feature`` for each that it has besides."""
    qemu_binary: str = "qemu-system-x86_64"
    bios: Path = Path("/usr/share/seabios/bios-256k.bin")
    """SeaBIOS, for the guests of `vmm` that boot from a disk."""
    iothreads: int = 1
    """Threads of each guest that its disks are spread over."""
    console_log_size: int = 1024 * 1024
    start_timeout: float = 60.0
    command_timeout: float = 10.0
    detach_timeout: float = 20.0
    freeze_timeout: float = 10.0
    """After which a guest's file systems are thawed, whatever happens."""
    copy_halt_timeout: float = 60.0
    """Without anything copied, after which the copying of a running guest's disks is given up."""
    kill_timeout: float = 30.0
    save_timeout: float = 600.0
