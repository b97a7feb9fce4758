"""A guest's counters, as a person reads them. Sizes in bytes, times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_agent.host.qmp import Execute
from compute_agent.virt.process.diagnostics import process_diagnostics

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


def diagnostics(execute: Execute, pid: int) -> Mapping[str, object]:
    """Ask a running QEMU, and the kernel about its process.

    :raises GuestGone: the process has ended.
    """
    found: dict[str, Any] = process_diagnostics(execute, pid)
    return found | {
        "driver": "qemu",
        "kvm": execute("query-kvm")["enabled"],
        "memory": found["memory"] | {"balloon": execute("query-balloon")["actual"]},
        "disks": {_device(disk["qdev"]): _disk(disk["stats"]) for disk in _disks(execute)},
    }


def _device(device: str) -> str:
    """A SCSI disk goes by its id, a virtio one by the path of a part that has none."""
    return device.removeprefix("/machine/peripheral/").partition("/")[0]


def _disks(execute: Execute) -> list[dict[str, Any]]:
    # Not query-block: it waits for storage that does not answer.
    return [disk for disk in execute("query-blockstats") if disk.get("qdev")]


def _disk(stats: Mapping[str, int]) -> dict[str, int]:
    return {ours: stats[theirs] for theirs, ours in _DISK_COUNTERS.items()}
