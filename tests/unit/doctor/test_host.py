"""What the doctor makes of a kernel, its /proc and /sys, its clock and its limits."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from compute_agent.doctor.clock import ClockState, check_clock, judge_clock
from compute_agent.doctor.finding import Finding, Status
from compute_agent.doctor.isolation import judge_isolation
from compute_agent.doctor.kernel import check_cgroups, check_iommu, judge_kernel
from compute_agent.doctor.memory import check_hugepages, check_post_copy, judge_open_files

CONFINED = """\
Name:\tcat
Uid:\t1900000007\t1900000007\t1900000007\t1900000007
CapPrm:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def transparent_hugepages(root: Path) -> Finding:
    return check_hugepages(root)[1]


@pytest.mark.parametrize(
    ("release", "machine", "status"),
    [
        ("6.1.0-49-cloud-amd64", "x86_64", Status.OK),
        ("5.10.0", "x86_64", Status.OK),
        ("5.9.16", "x86_64", Status.FAILURE),
        ("4.19.0-27-amd64", "x86_64", Status.FAILURE),
        ("6.1.0", "aarch64", Status.FAILURE),
    ],
)
def test_kernel(release: str, machine: str, status: Status) -> None:
    finding = judge_kernel(release, machine)
    assert (finding.status, bool(finding.remedy)) == (status, status is not Status.OK)
    assert release in finding.found


def test_cgroups_with_all_controllers(tmp_path: Path) -> None:
    write(tmp_path, {"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n"})
    assert check_cgroups(tmp_path)[0].status is Status.OK


def test_cgroups_with_some_controllers(tmp_path: Path) -> None:
    write(tmp_path, {"cgroup.controllers": "cpu pids\n"})
    (finding,) = check_cgroups(tmp_path)
    assert finding.status is Status.WARNING
    assert "without io, memory" in finding.found


def test_cgroups_of_version_1_only(tmp_path: Path) -> None:
    (finding,) = check_cgroups(tmp_path)
    assert finding.status is Status.WARNING
    assert "systemd.unified_cgroup_hierarchy=1" in finding.remedy


@pytest.mark.parametrize(
    ("vendor", "table", "argument"),
    [
        ("GenuineIntel", "DMAR", "intel_iommu=on"),
        ("AuthenticAMD", "IVRS", "amd_iommu=on"),
    ],
)
def test_iommu_that_the_kernel_leaves_off(tmp_path: Path, vendor: str, table: str, argument: str) -> None:
    cpu = f"processor\t: 0\nvendor_id\t: {vendor}\n\nprocessor\t: 1\n"
    write(tmp_path, {"proc/cpuinfo": cpu, f"sys/firmware/acpi/tables/{table}": ""})
    (finding,) = check_iommu(tmp_path)
    assert finding.status is Status.WARNING
    assert argument in finding.remedy
    assert "firmware" not in finding.remedy


def test_iommu_that_the_firmware_leaves_off(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": "vendor_id\t: GenuineIntel\n"})
    (finding,) = check_iommu(tmp_path)
    assert finding.status is Status.WARNING
    assert finding.remedy.startswith("enable VT-d in the firmware; kernel argument intel_iommu=on")


def test_iommu_in_use(tmp_path: Path) -> None:
    for group in ("0", "1", "2"):
        (tmp_path / "sys/kernel/iommu_groups" / group).mkdir(parents=True)
    (finding,) = check_iommu(tmp_path)
    assert (finding.status, finding.found) == (Status.OK, "3 groups")


def test_post_copy_where_it_is_asked_for(tmp_path: Path) -> None:
    (no_kernel,) = check_post_copy(privileged=True, asked_for=True, root=tmp_path)
    assert (no_kernel.status, no_kernel.found.partition(":")[0]) == (
        Status.WARNING,
        "this kernel has no userfaultfd",
    )
    write(tmp_path, {"proc/sys/vm/unprivileged_userfaultfd": "0\n"})
    (refused,) = check_post_copy(privileged=False, asked_for=True, root=tmp_path)
    assert (refused.status, refused.remedy.partition(";")[0]) == (
        Status.WARNING,
        "sysctl -w vm.unprivileged_userfaultfd=1",
    )
    (not_asked_for,) = check_post_copy(privileged=False, asked_for=False, root=tmp_path)
    assert not_asked_for.status is Status.OK
    (of_root,) = check_post_copy(privileged=True, asked_for=True, root=tmp_path)
    write(tmp_path, {"proc/sys/vm/unprivileged_userfaultfd": "1\n"})
    (allowed,) = check_post_copy(privileged=False, asked_for=True, root=tmp_path)
    assert allowed == of_root == check_post_copy(privileged=False, asked_for=False, root=tmp_path)[0]
    assert allowed.found == "guests can go on here before all of their memory has come"


def test_hugepages(tmp_path: Path) -> None:
    large = "sys/kernel/mm/hugepages"
    write(
        tmp_path,
        {
            f"{large}/hugepages-2048kB/nr_hugepages": "512\n",
            f"{large}/hugepages-2048kB/free_hugepages": "100\n",
            f"{large}/hugepages-1048576kB/nr_hugepages": "0\n",
            f"{large}/hugepages-1048576kB/free_hugepages": "0\n",
        },
    )
    assert check_hugepages(tmp_path)[0].found == "512 of 2 MiB, 100 free"


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        ("[always] madvise never", Status.OK),
        ("always [madvise] never", Status.OK),
        ("always madvise [never]", Status.WARNING),
    ],
)
def test_transparent_hugepages(tmp_path: Path, setting: str, status: Status) -> None:
    write(tmp_path, {"sys/kernel/mm/transparent_hugepage/enabled": setting})
    assert transparent_hugepages(tmp_path).status is status


def test_a_kernel_without_transparent_hugepages(tmp_path: Path) -> None:
    assert transparent_hugepages(tmp_path).status is Status.WARNING


@pytest.mark.parametrize(
    ("limit", "status"),
    [(1024, Status.WARNING), (1048576, Status.OK), (resource.RLIM_INFINITY, Status.OK)],
)
def test_open_files(limit: int, status: Status) -> None:
    assert judge_open_files(limit).status is status


@pytest.mark.parametrize(
    ("clock", "status", "says"),
    [
        (ClockState(True, 0.004), Status.OK, "4 ms"),
        (ClockState(True, 3.0), Status.WARNING, "3.0 s"),
        (ClockState(False, 16.0), Status.WARNING, "not synchronised"),
    ],
)
def test_clock(clock: ClockState, status: Status, says: str) -> None:
    finding = judge_clock(clock)
    assert (finding.status, "chrony" in finding.remedy) == (status, status is not Status.OK)
    assert says in finding.found


def test_the_kernel_answers_about_its_clock() -> None:
    (finding,) = check_clock()
    assert finding.status in (Status.OK, Status.WARNING)


def test_a_confined_process() -> None:
    assert judge_isolation(1900000007, CONFINED).status is Status.OK


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("1900000007\n", "0\n"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
        ("Seccomp:\t2", "Seccomp:\t0"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ("CapPrm:\t0000000000000000\n", ""),
    ],
)
def test_a_process_that_kept_something(what: str, instead: str) -> None:
    finding = judge_isolation(1900000007, CONFINED.replace(what, instead))
    assert finding.status is Status.FAILURE
    assert what.partition(":")[0] in finding.found or "Uid" in finding.found
