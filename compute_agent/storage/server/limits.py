"""What a block server may take of its host, as the files of its control group say it.

It serves one guest, which must not take more from the others through it than through its own process.
"""

from __future__ import annotations

from compute_agent.instance.model import MOST_DISKS

_MIB = 1024**2

_MEMORY = 256 * _MIB
"""Bytes besides those for its disks."""
_MEMORY_OF_DISK = 160 * _MIB
"""librbd lets 100 MiB of requests be under way."""
_THREADS = 64
_THREADS_OF_DISK = 32
"""Each has a connection of its own to its cluster."""


def memory_limit(guest_memory: int) -> tuple[str, str]:
    """For a server that shares `guest_memory` bytes with its guest: a page counts for whoever touches it first.

    A guest that reads a file into memory that it has not used yet has the server touch it.
    """
    return ("memory.max", str(_MEMORY + MOST_DISKS * _MEMORY_OF_DISK + guest_memory))


LIMITS = (
    memory_limit(0),
    ("pids.max", str(_THREADS + MOST_DISKS * _THREADS_OF_DISK)),
    ("cpu.weight", "100"),
)
"""Enough for as many disks as an instance can have; as much of the CPUs as any guest where all want them."""
