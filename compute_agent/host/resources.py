"""How large this machine is, and since when it runs."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_count() -> int:
    """Logical CPUs."""
    return os.cpu_count() or 1


def memory_mb() -> int:
    """Physical memory, MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def boot_id() -> str:
    """Of the time since this machine was booted: another one after each boot.

    Source: Linux's Documentation/admin-guide/sysctl/kernel.rst (random).
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
