"""What the guests' memory is made of, and how much one process may have open."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from compute_agent.doctor.finding import Finding, ok, warning
from compute_agent.host import page_faults

_SIZES = {"hugepages-2048kB": "2 MiB", "hugepages-1048576kB": "1 GiB"}
_DESCRIPTORS_A_GUEST = 10
"""Of the agent's, or some more while the guest starts."""
_GUESTS = 500
"""As many should be possible."""


def check_hugepages(root: Path = Path("/")) -> list[Finding]:
    """Are any reserved? And what do guests get without?"""
    reserved = [_describe(path) for path in sorted((root / "sys/kernel/mm/hugepages").glob("*")) if _pages(path, "nr")]
    found = ", ".join(reserved) or "none reserved (vm.nr_hugepages = 0)"
    return [ok("hugepages", found), _transparent_hugepages(root)]


def check_open_files() -> list[Finding]:
    """May a process have enough files open?"""
    return [judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])]


def judge_open_files(limit: int) -> Finding:
    """`limit` is what a process may raise its own to."""
    if limit != resource.RLIM_INFINITY and limit < _GUESTS * _DESCRIPTORS_A_GUEST:
        found = f"at most {limit} a process of this shell: enough for some {limit // _DESCRIPTORS_A_GUEST} guests"
        return warning("open-files", found, "ulimit -n 1048576; for the service: LimitNOFILE=1048576 in its unit")
    return ok("open-files", f"at most {limit if limit != resource.RLIM_INFINITY else 'any number of'} a process")


def check_post_copy(privileged: bool, asked_for: bool, root: Path = Path("/")) -> list[Finding]:
    """Can a guest run here while its memory still comes? `privileged`: its process is root's."""
    problem = page_faults.find_problem(privileged=privileged, root=root)
    if problem is None:
        return [ok("post-copy", "guests can go on here before all of their memory has come")]
    if not asked_for:
        return [ok("post-copy", f"not asked for, and not possible here: {problem}")]
    found = f"{problem}: hosts where [migration] on_timeout is post-copy cannot send guests here"
    return [warning("post-copy", found, f"sysctl -w {page_faults.SYSCTL}=1; for good: a file in /etc/sysctl.d")]


def _transparent_hugepages(root: Path) -> Finding:
    """QEMU asks for them with madvise(2)."""
    try:
        setting = (root / "sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        setting = "[never]"
    chosen = re.search(r"\[(\w+)\]", setting)
    mode = chosen[1] if chosen else "never"
    if mode == "never":
        remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; for good: transparent_hugepage=madvise"
        return warning("transparent-hugepages", "never: guests use 4 KiB pages", remedy)
    return ok("transparent-hugepages", f"{mode}: guests' memory is in 2 MiB pages as far as possible")


def _describe(path: Path) -> str:
    return f"{_pages(path, 'nr')} of {_SIZES.get(path.name, path.name)}, {_pages(path, 'free')} free"


def _pages(path: Path, kind: str) -> int:
    return int((path / f"{kind}_hugepages").read_text())
