"""What the virt room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtSettings:
    """Section ``[virt]``; times in seconds, sizes in bytes."""

    state_dir: Path
    """Survives a reboot of the host: console logs, QEMU's own logs, saved memory, one directory a guest."""
    run_dir: Path
    """Does not: sockets, one directory a guest."""
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    qemu_binary: str = "qemu-system-x86_64"
    console_log_size: int = 1024 * 1024
    start_timeout: float = 60.0
    command_timeout: float = 10.0
    kill_timeout: float = 30.0
    save_timeout: float = 600.0
