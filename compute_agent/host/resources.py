"""How large this machine is."""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Logical CPUs."""
    return os.cpu_count() or 1


def memory_mb() -> int:
    """Physical memory, MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
