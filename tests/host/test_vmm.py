"""A machine of our own under real KVM, ordered over the queue: its disks, its network, its end, and what it may do."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.state import PowerState, VmState
from compute_agent.rpc.client import ComputeClient
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.functional.guests import BOOT_SECONDS, Guests, a_port, address_of, an_order, until
from tests.host.console import run_on_console

VCPUS = 2
FLAVOR = Flavor(vcpus=VCPUS, memory_mb=192, extra_specs={"hw:vif_multiqueue_enabled": "true"})
FILL = "seq {} > /tmp/numbers && dd if=/tmp/numbers of=/dev/vda bs=4k conv=fsync && md5sum < /tmp/numbers"
ONE, OTHER = "1 200000", "200000 -1 1"
SIZE = 1_288_895
"""Of the numbers, bytes, in either order."""
WRITE = """
{ touch /tmp/writing; while [ -e /tmp/writing ]; do dd if=/dev/urandom of=/dev/vda bs=64k count=16 seek=64 conv=fsync
2>/dev/null; done; } & echo begun
""".replace("\n", " ")
"""All the time, behind the numbers, until the file goes."""
ROUTER, ON_NIC = "10.79.0.1", "10.79.0.2"
"""Addresses of the host, and of a NIC that comes and goes."""


class Machine:
    """A guest that runs in one."""

    def __init__(self, host: VirtualHost, order: Instance) -> None:
        self.host, self.guests = host, Guests(host, "vmm")
        self.order = self.guests.boot(order)
        self.uuid = order.uuid

    @property
    def pid(self) -> int:
        pid = self.guests.view(self.uuid).pid
        assert pid is not None
        return pid

    @property
    def client(self) -> ComputeClient:
        return self.guests.client

    def run(self, command: str) -> str:
        """What it printed, inside the guest."""
        socket = self.client.get_serial_console(self.uuid)["path"]
        return run_on_console(self.host, socket, command)

    def sends(self, address: str, size: int) -> int:
        """Of so many bytes that it sends from there, how many arrive."""
        receive = f"exec 3<>/dev/tcp/{address}/19; timeout 40 head -c {size} <&3 | wc -c"
        return int(self.host.run("bash", "-c", receive))

    def nic(self, port: Port) -> str:
        """What it calls the port's NIC; empty where it has none."""
        found = self.run(f"grep -l {port.mac_address} /sys/class/net/*/address || true").strip()
        return Path(found).parent.name

    def opened(self, path: str) -> int:
        """How often its process has a file open."""
        return self.host.run("sh", "-c", f"readlink /proc/{self.pid}/fd/*").count(path)

    def fill(self, numbers: str) -> str:
        """The start of its disk with these; their digest."""
        return self.run(FILL.format(numbers)).split()[-2]

    def digest(self, image: str) -> str:
        """Of what the start of a disk is in its image, or in a copy of it."""
        convert = f"qemu-img dd -f qcow2 -O raw bs=4k count=400 if={image} of=/tmp/disk0"
        return self.host.run("sh", "-c", f"{convert} && head -c {SIZE} /tmp/disk0 | md5sum").split()[0]

    def back_up(self, parent: str | None = None) -> tuple[str, str]:
        """The backup, and its file."""
        backup_id = str(uuid.uuid4())
        self.guests.finish(self.client.backup_instance(self.uuid, backup_id, parent=parent))
        return backup_id, self.find(backup_id)

    def find(self, what: str) -> str:
        """The file of its disk whose path has `what` in it."""
        found = self.host.run("find", "/var/lib/compute-agent", "-path", f"*{what}*", "-name", "disk0.qcow2")
        return found.split()[0]

    def disks(self) -> list[str]:
        return re.findall(r"vd[a-z]", self.run("ls /sys/block"))

    def status(self, field: str) -> str:
        """A line of the process's status in /proc."""
        lines = self.host.run("cat", f"/proc/{self.pid}/status").splitlines()
        return next(line.split(None, 1)[1] for line in lines if line.startswith(f"{field}:"))


@pytest.fixture(scope="module")
def machine(lab: Laboratory) -> Iterator[Machine]:
    """Two processors, a disk; what is left of it in the host fails the module."""
    host = lab.hosts[0]
    order = msgspec.structs.replace(an_order(config_drive=False), flavor=FLAVOR)
    machine = Machine(host, order)
    yield machine
    machine.guests.terminate_all()
    until(lambda: "vhost-" not in host.run("ps", "-e", "-o", "comm"))
    assert "qemu-storage-daemon" not in host.run("ps", "-e", "-o", "args")
    assert "tap" not in host.run("ovs-vsctl", "list-ports", "br-int")


def test_kvm_runs_all_its_processors_and_no_emulator_is_there(machine: Machine) -> None:
    assert int(machine.run("grep -c ^processor /proc/cpuinfo")) == VCPUS
    assert machine.status("Name").strip() == "vmm"
    assert "qemu-system" not in machine.host.run("ps", "-e", "-o", "args")
    opened = machine.host.run("sh", "-c", f"readlink /proc/{machine.pid}/fd/*")
    assert "anon_inode:kvm-vm" in opened
    assert len(set(re.findall(r"kvm-vcpu:\d+", opened))) == opened.count("/dev/vhost-net") == VCPUS


def test_its_process_has_nothing_to_steal(machine: Machine) -> None:
    assert set(machine.status("Uid").split()) == {str(machine.host.run("stat", "-c", "%u", _run_dir(machine)).strip())}
    assert {machine.status(name).strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (machine.status("NoNewPrivs").strip(), machine.status("Seccomp").strip()) == ("1", "2")
    own, ours = (
        machine.host.run("sh", "-c", f"readlink /proc/{pid}/ns/{{mnt,net,ipc,uts,pid}} || true")
        for pid in (machine.pid, "self")
    )
    assert not set(own.split()) & set(ours.split())


def test_it_is_backed_up_while_it_writes(machine: Machine) -> None:
    first = machine.fill(ONE)
    machine.run(WRITE)
    full, file = machine.back_up()
    second = machine.fill(OTHER)
    _, later = machine.back_up(full)
    assert (machine.digest(file), machine.digest(later)) == (first, second)
    assert first != second
    assert [one.frozen for one in machine.client.list_backups(machine.uuid)] == [False, False], "nobody was asked"


def test_a_layer_comes_and_goes_while_it_writes(machine: Machine) -> None:
    layer = str(uuid.uuid4())
    below = machine.fill(OTHER)
    machine.guests.finish(machine.client.volume_snapshot_create(machine.uuid, "disk0", layer))
    above = machine.fill(ONE)
    assert machine.digest(machine.find(machine.uuid)) == below
    machine.guests.finish(machine.client.volume_snapshot_delete(machine.uuid, "disk0", layer))
    machine.run("rm /tmp/writing")
    assert machine.run(f"head -c {SIZE} /dev/vda | md5sum").split()[0] == above
    assert machine.guests.view(machine.uuid).instance.block_devices[0].layers == ()


def test_what_it_writes_is_in_its_image_and_what_it_wrote_comes_back(machine: Machine) -> None:
    former = machine.fill(ONE)
    full, _ = machine.back_up()
    digest = machine.fill(OTHER)
    machine.guests.finish(machine.client.stop_instance(machine.uuid, timeout=60))
    assert machine.digest(machine.find(machine.uuid)) == digest
    machine.guests.finish(machine.client.restore_instance(machine.uuid, full))
    machine.guests.finish(machine.client.start_instance(machine.uuid))
    machine.guests.await_console(machine.uuid, "GUEST READY", times=2)
    assert machine.run(f"head -c {SIZE} /dev/vda | md5sum").split()[0] == former


def test_a_disk_comes_and_goes_while_it_runs(machine: Machine) -> None:
    volume = BlockDevice(source_type="blank", size_gb=1, volume_id=str(uuid.uuid4()))
    machine.guests.finish(machine.client.attach_volume(machine.uuid, volume))
    until(lambda: machine.disks() == ["vda", "vdb"], BOOT_SECONDS)
    machine.guests.finish(machine.client.extend_volume(machine.uuid, "disk1", 2))
    until(lambda: int(machine.run("cat /sys/block/vdb/size")) == 2 << 21, BOOT_SECONDS)
    machine.guests.finish(machine.client.detach_volume(machine.uuid, str(volume.volume_id)))
    assert machine.disks() == ["vda"]


def test_a_nic_comes_carries_packets_and_goes_while_it_runs(machine: Machine) -> None:
    port, vhost = a_port(), "/dev/vhost-net"
    served = machine.opened(vhost)
    machine.guests.finish(machine.client.attach_interface(machine.uuid, port))
    name = until(lambda: machine.nic(port), BOOT_SECONDS)
    assert machine.opened(vhost) == served + VCPUS, "a queue pair for each processor"
    machine.run(f"ip link set {name} up; ip address add {ON_NIC}/24 dev {name}")
    machine.host.run("ip", "address", "replace", f"{ROUTER}/24", "dev", "br-int")
    assert machine.sends(ON_NIC, 4_000_000) == 4_000_000
    machine.guests.finish(machine.client.suspend_instance(machine.uuid))
    machine.guests.finish(machine.client.resume_instance(machine.uuid))
    assert machine.sends(ON_NIC, 1_000_000) == 1_000_000
    machine.guests.finish(machine.client.detach_interface(machine.uuid, port.id))
    assert not machine.nic(port)
    assert machine.opened(vhost) == served
    assert f"tap{port.id[:11]}" not in machine.host.run("ip", "-br", "link") + machine.host.run("ovs-vsctl", "show")


def test_a_block_server_that_dies_is_replaced_and_its_guest_goes_on(machine: Machine) -> None:
    machine.host.run("pkill", "-KILL", "-f", "qemu-storage-daemon")
    until(lambda: "qemu-storage-daemon" in machine.host.run("ps", "-e", "-o", "args"))
    until(lambda: machine.guests.view(machine.uuid).power_state is PowerState.RUNNING, BOOT_SECONDS)
    assert machine.fill(ONE)


def test_tcp_carries_all_that_is_sent(machine: Machine) -> None:
    assert machine.sends(address_of(machine.order), 4_000_000) == 4_000_000


def test_it_resets_itself_and_is_switched_off_from_inside(machine: Machine) -> None:
    ready = machine.guests.console(machine.uuid).count("GUEST READY")
    pid = machine.pid
    machine.guests.finish(machine.client.reboot_instance(machine.uuid))
    machine.guests.await_console(machine.uuid, "GUEST READY", times=ready + 1)
    assert machine.pid == pid
    machine.run("{ sleep 1; reboot -f; } >/dev/null 2>&1 & true")
    machine.guests.await_console(machine.uuid, "GUEST READY", times=ready + 2)
    machine.run("{ sleep 1; poweroff -f; } >/dev/null 2>&1 & true")
    until(lambda: machine.guests.view(machine.uuid).vm_state is VmState.STOPPED, BOOT_SECONDS)
    machine.guests.finish(machine.client.start_instance(machine.uuid))
    machine.guests.await_console(machine.uuid, "GUEST READY", times=ready + 3)


def test_the_agent_finds_it_again(machine: Machine) -> None:
    pid = machine.pid
    machine.host.kill_agent()
    machine.host.start_agent()
    until(lambda: machine.guests.view(machine.uuid).pid == pid)
    machine.guests.finish(machine.client.pause_instance(machine.uuid))
    machine.guests.finish(machine.client.unpause_instance(machine.uuid))
    assert machine.run("echo alive") == "alive\n"


def _run_dir(machine: Machine) -> str:
    socket = machine.client.get_serial_console(machine.uuid)["path"]
    return str(Path(str(socket)).parent)
