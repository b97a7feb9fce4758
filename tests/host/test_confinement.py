"""A guest under the real kernel: what its process may do and take."""

from __future__ import annotations

import msgspec
import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance
from compute_agent.storage.server.limits import LIMITS
from laboratory.host import VirtualHost
from tests.functional.guests import Guests, an_order

MIB = 1024**2
CGROUPS = "/sys/fs/cgroup/compute-agent"
SERVERS = "/sys/fs/cgroup/compute-agent-servers"
VOLUME = "6d0f3d0c-3c1f-4b0b-8f0e-1a2b3c4d5e6f"
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
    assert limits == {
        "memory": str((128 + 256) * MIB),
        "pids": "129",
        "cpu": "150000 100000",
        "io": _io_limit(host),
    }


def _io_limit(host: VirtualHost) -> str:
    device = host.run("lsblk", "--noheadings", "--nodeps", "--output", "MAJ:MIN", "/dev/vda").strip()
    return f"{device} rbps={64 * MIB} wbps=max riops=max wiops=500"


def _members(host: VirtualHost, uuid: str) -> list[str]:
    return host.run("cat", f"{CGROUPS}/{uuid}/cgroup.procs").split()


def test_disk_that_comes_later_is_limited_too(host: VirtualHost, guests: Guests) -> None:
    order = msgspec.structs.replace(an_order(), block_devices=[], config_drive=False)
    guest = guests.boot(with_specs(order, SPECS))
    assert host.run("cat", f"{CGROUPS}/{guest.uuid}/io.max") == ""
    guests.finish(
        guests.client.attach_volume(guest.uuid, BlockDevice(source_type="blank", size_gb=1, volume_id=VOLUME))
    )
    assert host.run("cat", f"{CGROUPS}/{guest.uuid}/io.max").strip() == _io_limit(host)


SERVE = f"""
from pathlib import Path
from compute_agent.instance.devices import FileSource
from compute_agent.storage.server.exports import FileExport
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.server.settings import BlockServerSettings
place, uuid = Path("/run/served"), "{VOLUME}"
place.mkdir()
(place / "disk.raw").write_bytes(bytes(1024**2))
servers = BlockServers(BlockServerSettings(run_dir=place / "run", uid_base=1_950_000_000), print)
servers.add(uuid, FileExport(name="disk0", source=FileSource(path=place / "disk.raw", format="raw")))
servers.connect(uuid, "disk0").close()
group = Path("{SERVERS}") / uuid
(pid,) = (group / "cgroup.procs").read_text().split()
print(Path("/proc", pid, "comm").read_text().strip())
print(*((group / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.weight")))
servers.close()
servers = BlockServers(BlockServerSettings(run_dir=place / "run", uid_base=1_950_000_000), print)
servers.remove(uuid, "disk0")
print(servers.inspect(), group.exists())
group.mkdir()  # of an agent that was killed between the end of a server and that of its group
print(servers.inspect())
servers.stop(uuid)
print(servers.inspect())
servers.close()
"""


def test_block_server_has_limits_that_go_with_it(host: VirtualHost) -> None:
    said = host.run("python", "-c", SERVE).splitlines()
    limits = " ".join(value for _, value in LIMITS)
    assert said == ["qemu-storage-da", limits, "set() False", f"{{'{VOLUME}'}}", "set()"]


@pytest.mark.parametrize("name", ["quota:cpu_quota", "quota:cpu_qota"])
def test_bad_quota_is_refused_at_once(name: str, guests: Guests) -> None:
    with pytest.raises(InvalidMessage, match=name):
        guests.client.build_and_run_instance(with_specs(an_order(), {name: "plenty"}))
