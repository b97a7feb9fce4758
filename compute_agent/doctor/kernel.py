"""The kernel: its version, what guests' processes are limited with, the IOMMU."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.host.cgroups import CONTROLLERS
from compute_agent.host.cpu import read_processor

OLDEST_KERNEL = (5, 10)
"""The oldest with long-term support that has all of pidfd_getfd(2), close_range(2) and a /proc of processes only."""

_V2_ONLY = "kernel argument systemd.unified_cgroup_hierarchy=1 in GRUB_CMDLINE_LINUX, then update-grub and reboot"


def check_kernel() -> list[Finding]:
    """Is the kernel new enough?"""
    return [judge_kernel(platform.release(), platform.machine())]


def judge_kernel(release: str, machine: str) -> Finding:
    """`release` and `machine` as uname(1) prints them."""
    found = f"Linux {release}, {machine}"
    if machine != "x86_64":
        return failure("kernel", f"{found}: guests are x86_64", "use a host with that architecture")
    version = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if version < OLDEST_KERNEL:
        oldest = ".".join(str(number) for number in OLDEST_KERNEL)
        return failure("kernel", f"{found}: older than {oldest}", "apt install linux-image-amd64, then reboot")
    return ok("kernel", found)


def check_cgroups(parent: Path) -> list[Finding]:
    """Are there control groups of version 2 at `parent`, the root that the guests' groups are to be under?"""
    try:
        offered = (parent / "cgroup.controllers").read_text().split()
    except OSError:
        found = f"{parent} is no cgroup v2: guests have no limits, and flavors that ask for some are refused"
        return [warning("cgroup", found, _V2_ONLY)]
    missing = [name for name in CONTROLLERS if name not in offered]
    if missing:
        found = f"v2 at {parent}, without {', '.join(missing)}: flavors that ask for such limits are refused"
        return [warning("cgroup", found, f"{_V2_ONLY}; {parent}/cgroup.controllers must list them")]
    return [ok("cgroup", f"v2 at {parent} with {', '.join(CONTROLLERS)}")]


def check_iommu(root: Path = Path("/")) -> list[Finding]:
    """Could a device of the host be given to a guest?"""
    groups = list((root / "sys/kernel/iommu_groups").glob("*"))
    if groups:
        return [ok("iommu", f"{len(groups)} groups")]
    intel = read_processor(root).vendor == "Intel"
    technology, argument = ("VT-d", "intel_iommu=on iommu=pt") if intel else ("AMD-Vi", "amd_iommu=on iommu=pt")
    kernel = f"kernel argument {argument} in GRUB_CMDLINE_LINUX, then update-grub and reboot"
    described = (root / "sys/firmware/acpi/tables" / ("DMAR" if intel else "IVRS")).exists()
    if described:
        return [warning("iommu", "off: devices cannot be passed to guests", kernel)]
    found = "the firmware offers none: devices cannot be passed to guests"
    return [warning("iommu", found, f"enable {technology} in the firmware; {kernel}")]
