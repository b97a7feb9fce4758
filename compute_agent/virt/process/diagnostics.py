"""What of a guest's counters any monitor and the kernel tell. Sizes in bytes, times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.errors import GuestGone
from compute_agent.host.process_usage import resident_bytes, thread_cpu_times, uptime
from compute_agent.host.qmp import Execute


def process_diagnostics(execute: Execute, pid: int) -> dict[str, Any]:
    """Ask a running guest's monitor, and the kernel about its process.

    :raises GuestGone: the process has ended.
    """
    try:
        times = thread_cpu_times(pid)
        return {
            "state": execute("query-status")["status"],
            "uptime": round(uptime(pid), 1),
            "cpus": [_cpu(cpu, times) for cpu in execute("query-cpus-fast")],
            "memory": {"resident": resident_bytes(pid)},
        }
    except ProcessLookupError as error:
        raise GuestGone(str(error)) from error


def _cpu(cpu: Mapping[str, Any], times: Mapping[int, float]) -> dict[str, object]:
    return {"id": cpu["cpu-index"], "time": times[cpu["thread-id"]]}
