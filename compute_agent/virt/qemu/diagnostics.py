"""A guest's counters, as a person reads them. Sizes in bytes, times in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compute_agent.errors import GuestGone
from compute_agent.host.process_usage import resident_bytes, thread_cpu_times, uptime

_DISK_COUNTERS = {
    "rd_bytes": "read_bytes",
    "rd_operations": "read_requests",
    "wr_bytes": "write_bytes",
    "wr_operations": "write_requests",
    "flush_operations": "flush_requests",
    "failed_rd_operations": "failed_reads",
    "failed_wr_operations": "failed_writes",
}
"""QEMU's names and ours."""


def diagnostics(execute: Callable[[str], Any], pid: int) -> Mapping[str, object]:
    """Ask a running QEMU, and the kernel about its process.

    :raises GuestGone: the process has ended.
    """
    try:
        times = thread_cpu_times(pid)
        return {
            "driver": "qemu",
            "kvm": execute("query-kvm")["enabled"],
            "state": execute("query-status")["status"],
            "uptime": round(uptime(pid), 1),
            "cpus": [_cpu(cpu, times) for cpu in execute("query-cpus-fast")],
            "memory": {"balloon": execute("query-balloon")["actual"], "resident": resident_bytes(pid)},
            "disks": {_device(disk["qdev"]): _disk(disk["stats"]) for disk in _disks(execute)},
        }
    except ProcessLookupError as error:
        raise GuestGone(str(error)) from error


def _cpu(cpu: Mapping[str, Any], times: Mapping[int, float]) -> dict[str, object]:
    return {"id": cpu["cpu-index"], "time": times[cpu["thread-id"]]}


def _device(device: str) -> str:
    """A SCSI disk goes by its id, a virtio one by the path of a part that has none."""
    return device.removeprefix("/machine/peripheral/").partition("/")[0]


def _disks(execute: Callable[[str], Any]) -> list[dict[str, Any]]:
    # Not query-block: it waits for storage that does not answer.
    return [disk for disk in execute("query-blockstats") if disk.get("qdev")]


def _disk(stats: Mapping[str, int]) -> dict[str, int]:
    return {ours: stats[theirs] for theirs, ours in _DISK_COUNTERS.items()}
