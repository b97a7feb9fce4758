"""What a guest's QEMU may take of its host."""

from __future__ import annotations

from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.limits import Limits, process_limits

_MIB = 1024**2

OVERHEAD = 256 * _MIB
"""Bytes that QEMU needs besides the guest's memory: 90 MiB for itself, the rest for devices, threads, bursts of I/O."""
TRANSLATION_BUFFER = 1024 * _MIB
"""Bytes that TCG may come to keep of translated code."""
THREADS = 128
"""Besides those of the vCPUs: QEMU's pool for I/O has up to 64."""


def limits_of(request: StartRequest) -> Limits:
    """:raises HostError: the disks are on nothing that I/O can be limited on."""
    translation = TRANSLATION_BUFFER if request.machine.accelerator == "tcg" else 0
    return process_limits(request, overhead=OVERHEAD + translation, threads=THREADS)
