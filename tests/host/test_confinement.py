"""A guest under the real kernel: what its process may do and take."""

from __future__ import annotations

import msgspec
import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.model import Flavor, Instance
from laboratory.host import VirtualHost
from tests.functional.guests import Guests, an_order

MIB = 1024**2
CGROUPS = "/sys/fs/cgroup/compute-agent"
NAMESPACES = ("mnt", "net", "ipc", "uts", "pid", "cgroup")
SPECS = {
    "quota:cpu_quota": "150000",
    "quota:disk_read_bytes_sec": str(64 * MIB),
    "quota:disk_write_iops_sec": "500",
}


def with_specs(order: Instance, specs: dict[str, str]) -> Instance:
    return msgspec.structs.replace(order, flavor=Flavor(vcpus=1, memory_mb=128, extra_specs=specs))


def test_process_has_nothing_to_steal_and_its_limits_are_kept(host: VirtualHost, guests: Guests) -> None:
    guest = guests.boot(with_specs(an_order(), SPECS))
    pid = guests.view(guest.uuid).pid
    assert pid is not None
    _check_status(host, pid)
    _check_namespaces(host, pid)
    _check_limits(host, pid, guest.uuid)
    guests.terminate_all()
    assert host.run("ls", CGROUPS).split().count(guest.uuid) == 0


def _check_status(host: VirtualHost, pid: int) -> None:
    lines = host.run("cat", f"/proc/{pid}/status").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert int(status["Uid"].split()[0]) >= 1_900_000_000
    assert status["Groups"] == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def _check_namespaces(host: VirtualHost, pid: int) -> None:
    for name in NAMESPACES:
        ours, its = host.run("readlink", f"/proc/1/ns/{name}", f"/proc/{pid}/ns/{name}").split()
        assert ours != its
    assert host.run("ls", f"/proc/{pid}/root/dev").split() == ["kvm", "null", "random", "urandom", "zero"]


def _check_limits(host: VirtualHost, pid: int, uuid: str) -> None:
    # The kernel puts its own workers for a process beside it.
    names = {host.run("cat", f"/proc/{one}/comm").strip() for one in _members(host, uuid)}
    assert str(pid) in _members(host, uuid)
    assert names - {f"vhost-{pid}", f"kvm-nx-lpage-recovery-{pid}"} == {"qemu-system-x86"}
    limits = {name: host.run("cat", f"{CGROUPS}/{uuid}/{name}.max").strip() for name in ("memory", "pids", "cpu", "io")}
    device = host.run("lsblk", "--noheadings", "--nodeps", "--output", "MAJ:MIN", "/dev/vda").strip()
    assert limits == {
        "memory": str((128 + 256) * MIB),
        "pids": "129",
        "cpu": "150000 100000",
        "io": f"{device} rbps={64 * MIB} wbps=max riops=max wiops=500",
    }


def _members(host: VirtualHost, uuid: str) -> list[str]:
    return host.run("cat", f"{CGROUPS}/{uuid}/cgroup.procs").split()


@pytest.mark.parametrize("name", ["quota:cpu_quota", "quota:cpu_qota"])
def test_bad_quota_is_refused_at_once(name: str, guests: Guests) -> None:
    with pytest.raises(InvalidMessage, match=name):
        guests.client.build_and_run_instance(with_specs(an_order(), {name: "plenty"}))
