"""What the process of a machine may take of its host."""

from __future__ import annotations

from compute_agent.instance.extra_specs import queue_pairs
from compute_agent.instance.model import MOST_PORTS
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.limits import Limits, process_limits

OVERHEAD = 64 * 1024**2
"""Bytes besides the guest's memory: 10 MiB for the process, the rest for the kernel's tables of the guest's pages."""
THREADS = 64
"""Besides those of the vCPUs, and of the NICs that may come: a queue pair's worker in the kernel."""


def limits_of(request: StartRequest) -> Limits:
    """:raises HostError: a limit is wanted that cannot be kept."""
    workers = MOST_PORTS * queue_pairs(request.instance.flavor)
    return process_limits(request, overhead=OVERHEAD, threads=THREADS + workers)
