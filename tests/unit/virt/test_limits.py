"""What a flavor comes to in the files of a control group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.errors import HostError
from compute_agent.host.cgroups import CONTROLLERS, CgroupParent
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Flavor, Instance
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.limits import check_quota, io_limits
from compute_agent.virt.qemu.limits import limits_of

ALL = frozenset(CONTROLLERS)
IO_QUOTA = {"quota:disk_read_bytes_sec": "1048576", "quota:disk_write_iops_sec": "100"}


def a_request(specs: dict[str, str], accelerator: str = "kvm", disk: Path | None = None) -> StartRequest:
    flavor = Flavor(vcpus=4, memory_mb=1024, extra_specs=specs)
    instance = Instance(uuid="5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11", name="one", flavor=flavor)
    machine = Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator=accelerator, cpu="host", slots={})
    disks = [Disk(name="disk0", source=FileSource(path=disk, format="raw"))] if disk else []
    return StartRequest(instance=instance, machine=machine, disks=disks, nics=[])


def test_memory_has_room_for_qemu_and_threads_are_counted() -> None:
    assert limits_of(a_request({})) == [
        ("memory.max", str((1024 + 256) * 1024**2)),
        ("pids.max", "132"),
        ("cpu.max", "max 100000"),
    ]


def test_emulation_may_keep_what_it_translated() -> None:
    limits = dict(limits_of(a_request({}, accelerator="tcg")))
    assert limits["memory.max"] == str((1024 + 256 + 1024) * 1024**2)


def test_cpu_quota_has_its_period() -> None:
    specs = {"quota:cpu_quota": "50000", "quota:cpu_period": "20000"}
    assert dict(limits_of(a_request(specs)))["cpu.max"] == "50000 20000"


def test_io_is_limited_on_the_disk_that_holds_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").touch()
    monkeypatch.setattr("compute_agent.virt.process.limits._whole_disk", lambda path: "253:0")
    limits = limits_of(a_request(IO_QUOTA, disk=tmp_path / "disk"))
    assert limits[-1] == ("io.max", "253:0 rbps=1048576 wiops=100")


def test_io_without_a_block_device_cannot_be_limited() -> None:
    with pytest.raises(HostError, match="not on a block device"):
        limits_of(a_request(IO_QUOTA, disk=Path("/proc/self/status")))


def test_controllers_that_are_missing_are_named() -> None:
    instance = a_request(IO_QUOTA | {"quota:cpu_quota": "1000"}).instance
    check_quota(instance, ALL)
    with pytest.raises(HostError, match=r"\['cpu', 'io'\]"):
        check_quota(instance, frozenset({"memory", "pids"}))


def test_no_cgroup_v2_means_no_controllers(tmp_path: Path) -> None:
    parent = CgroupParent(tmp_path / "compute-agent")
    assert (parent.controllers, parent.names()) == (frozenset(), set())
    parent.remove("5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11")
    assert list(tmp_path.iterdir()) == []


def test_limits_without_a_controller_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("pids")
    parent = CgroupParent(tmp_path / "guests")
    (tmp_path / "guests" / "one").mkdir()
    parent.limit("one", limits_of(a_request({})))
    assert [(path.name, path.read_text()) for path in (tmp_path / "guests/one").iterdir()] == [("pids.max", "132")]


def test_disk_that_comes_later_is_limited_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute_agent.virt.process.limits._whole_disk", lambda path: "253:16")
    request = a_request(IO_QUOTA, disk=tmp_path / "disk")
    assert list(io_limits(request.instance, request.disks)) == [("io.max", "253:16 rbps=1048576 wiops=100")]
    read_only = [replace(disk, read_only=True) for disk in request.disks]
    assert list(io_limits(request.instance, read_only)) == []


def test_refused_limit_is_named(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids")
    parent = CgroupParent(tmp_path / "guests")
    assert parent.controllers == ALL
    assert (tmp_path / "guests" / "cgroup.subtree_control").read_text() == "+cpu +io +memory +pids"
    (tmp_path / "guests" / "one").mkdir()
    (tmp_path / "guests" / "one" / "memory.max").symlink_to("/dev/full")
    with pytest.raises(HostError, match=r"memory.max = '1'"):
        parent.create("one", [("memory.max", "1")])
