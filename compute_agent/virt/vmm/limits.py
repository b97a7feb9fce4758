"""What the process of a machine may take of its host."""

from __future__ import annotations

from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.limits import Limits, process_limits

OVERHEAD = 64 * 1024**2
"""Bytes besides the guest's memory: 10 MiB for the process, the rest for the kernel's tables of the guest's pages."""
THREADS = 64
"""Besides those of the vCPUs: a queue pair's worker in the kernel, and a few of the process."""


def limits_of(request: StartRequest) -> Limits:
    """:raises HostError: a limit is wanted that cannot be kept."""
    queue_pairs = sum(len(nic.vhost_fds) for nic in request.nics)
    return process_limits(request, overhead=OVERHEAD, threads=THREADS + queue_pairs)
