"""What a guest's process may take of its host, as the files of its control group say it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from compute_agent.errors import HostError
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.instance.model import Instance
from compute_agent.virt.contract import StartRequest

_MIB = 1024**2

Limits = list[tuple[str, str]]
"""Names of files and what to write to each, in this order."""

_IO_LIMITS = {
    "rbps": "disk_read_bytes_sec",
    "wbps": "disk_write_bytes_sec",
    "riops": "disk_read_iops_sec",
    "wiops": "disk_write_iops_sec",
}


def check_quota(instance: Instance, controllers: frozenset[str]) -> None:
    """:raises HostError: the flavor wants a limit that this host cannot keep."""
    quota = read_extra_specs(instance.flavor.extra_specs).quota
    wanted = {"cpu": quota.cpu_quota is not None, "io": quota.limits_disks}
    missing = sorted(name for name, is_wanted in wanted.items() if is_wanted and name not in controllers)
    if missing:
        raise HostError(
            f"instance.flavor.extra_specs: its quota needs the cgroup v2 controllers {missing}, "
            "which this host does not have for guests"
        )


def process_limits(request: StartRequest, *, overhead: int, threads: int) -> Limits:
    """Of a guest's process that needs `overhead` bytes besides the guest's memory, and `threads` besides its vCPUs.

    :raises HostError: the disks are on nothing that I/O can be limited on.
    """
    flavor = request.instance.flavor
    quota = read_extra_specs(flavor.extra_specs).quota
    return [
        ("memory.max", str(flavor.memory_mb * _MIB + overhead)),
        ("pids.max", str(flavor.vcpus + threads)),
        ("cpu.max", f"{quota.cpu_quota or 'max'} {quota.cpu_period}"),
        *io_limits(request.instance, request.disks),
    ]


def io_limits(instance: Instance, disks: Iterable[Disk]) -> Iterator[tuple[str, str]]:
    """The same, of what these disks are on.

    :raises HostError: it is nothing that I/O can be limited on.
    """
    quota = read_extra_specs(instance.flavor.extra_specs).quota
    given = {key: getattr(quota, name) for key, name in _IO_LIMITS.items()}
    limits = " ".join(f"{key}={value}" for key, value in given.items() if value is not None)
    if limits:
        for device in sorted({_whole_disk(path) for path in _written(disks)}):
            yield "io.max", f"{device} {limits}"


def _written(disks: Iterable[Disk]) -> Iterator[Path]:
    """The local files that the guest writes to."""
    for disk in disks:
        if isinstance(disk.source, FileSource) and not disk.read_only:
            yield disk.source.path


def _whole_disk(path: Path) -> str:
    """``major:minor`` of what the file's file system is on; of a partition's disk, as only disks can be limited."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    if not device.exists():
        raise HostError(f"I/O on {path} cannot be limited: it is not on a block device")
    holder = device.parent if (device / "partition").exists() else device
    return (holder / "dev").read_text().strip()
