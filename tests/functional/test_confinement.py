"""What a guest's process has of its host (nothing), and what an intruder in it gets (nothing)."""

from __future__ import annotations

import errno
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu.qmp.legacy import QEMUMonitorProtocol

from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.network.ovs.tap import open_tap
from compute_agent.virt.settings import GUEST_UIDS
from sandbox.node import Node
from tests.functional.guests import BOOT_SECONDS, Guests, address_of, an_order, pings, until
from tests.functional.inside import AT_FDCWD, Ended, Inside

NAMESPACES = ("mnt", "net", "ipc", "uts", "pid", "cgroup")


@pytest.fixture(scope="module")
def pair(node: Node) -> Iterator[tuple[Instance, Instance]]:
    """Two guests beside each other."""
    guests = Guests(node)
    yield guests.boot(), guests.boot()
    guests.terminate_all()


def pid_of(node: Node, instance: Instance) -> int:
    pid = node.client.get_instance(instance.uuid).pid
    assert pid is not None
    return pid


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors_of(pid: int) -> list[str]:
    return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def test_process_is_a_user_of_its_own_without_privileges(node: Node, pair: tuple[Instance, Instance]) -> None:
    users = []
    for instance in pair:
        status = status_of(pid_of(node, instance))
        (uid,) = set(status["Uid"].split())
        users.append(uid)
        assert set(status["Gid"].split()) == {uid}
        assert status["Groups"] == ""
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["Seccomp_filters"]) >= 2, "ours and that of QEMU's sandbox"
    assert len(set(users)) == 2
    assert all(0 <= int(uid) - 1_900_000_000 < 100 * GUEST_UIDS for uid in users)


def test_process_has_namespaces_of_its_own(node: Node, pair: tuple[Instance, Instance]) -> None:
    for name in NAMESPACES:
        places = {Path(f"/proc/{pid}/ns/{name}").readlink() for pid in (node.pid, *(pid_of(node, one) for one in pair))}
        assert len(places) == 3, name


def test_process_sees_programs_and_few_devices(node: Node, pair: tuple[Instance, Instance]) -> None:
    root = Path(f"/proc/{pid_of(node, pair[0])}/root")
    assert {entry.name for entry in root.iterdir()} <= {
        *("bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "usr")
    }
    assert list((root / "run").iterdir()) == []
    assert {entry.name for entry in (root / "dev").iterdir()} == {"null", "zero", "random", "urandom"}
    assert {entry.name for entry in (root / "etc").iterdir()} == {"ld.so.cache"}


def test_process_holds_its_own_files_only(node: Node, pair: tuple[Instance, Instance]) -> None:
    mine, other = pair
    pid = pid_of(node, mine)
    files = [target for target in descriptors_of(pid) if target.startswith("/")]
    inside = [target for target in files if str(node.directory) in target]
    assert any(f"/disks/{mine.uuid}/disk0.qcow2" in target for target in inside)
    assert [target for target in inside if mine.uuid not in target and "/images/" not in target] == []
    assert [target for target in files if other.uuid in target] == []
    environment = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    assert environment == [f"COMPUTE_AGENT_GUEST={node.directory}/run/guests/{mine.uuid}".encode()]


def test_intruder_is_refused_everything(node: Node, pair: tuple[Instance, Instance]) -> None:
    mine, other = pair
    state = node.directory / "state"
    secrets = [
        state / "disks" / other.uuid / "disk0.qcow2",
        state / "journal.sqlite",
        node.config_file,
        Path("/etc/shadow"),
        Path(f"/proc/{node.pid}/root"),
    ]
    assert all(path.exists() for path in secrets), "the test would prove nothing"
    with Inside(pid_of(node, mine)) as intruder:
        assert intruder.call("openat", AT_FDCWD, "/dev/null", os.O_RDONLY) >= 0, "this is how success looks"
        for path in secrets:
            assert intruder.call("openat", AT_FDCWD, str(path), os.O_RDONLY) == -errno.ENOENT, path
        for device in ("/dev/kvm", "/dev/mem", "/dev/net/tun"):
            assert intruder.call("openat", AT_FDCWD, device, os.O_RDWR) == -errno.ENOENT, device
        for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_VSOCK):
            assert intruder.call("socket", family, socket.SOCK_STREAM, 0) == -errno.EPERM, family
        for name in ("ptrace", "io_uring_setup"):
            assert intruder.call(name, 0, 0, 0, 0) == -errno.EPERM, name
        assert intruder.call("openat", AT_FDCWD, "/usr/x", os.O_WRONLY | os.O_CREAT) in (-errno.EROFS, -errno.EACCES)
        assert intruder.call("mknodat", AT_FDCWD, "/dev/x", 0o60666, 0x800) in (-errno.EROFS, -errno.EPERM)
        assert intruder.call("kill", node.pid or 0, signal.SIGKILL) == -errno.ESRCH
        assert intruder.call("getpid") == 1, "it sees itself only"
    assert pings(address_of(mine)), "the guest has not noticed"


@pytest.mark.parametrize(
    "call",
    [("fork",), ("clone", int(signal.SIGCHLD)), ("execve", "/bin/sh", 0, 0), ("setuid", 0), ("mount", 0, 0, 0, 0)],
    ids=lambda call: call[0],
)
def test_intruder_who_would_be_more_than_he_is_gets_killed(call: tuple[str, int], guests: Guests) -> None:
    order = an_order()
    guests.finish(guests.client.build_and_run_instance(order))
    pid = pid_of(guests.node, order)
    with pytest.raises(Ended) as ended, Inside(pid) as intruder:
        intruder.call(*call)
    assert ended.value.args == (signal.SIGSYS,)
    until(lambda: guests.view(order.uuid).vm_state is VmState.STOPPED)
    assert "SIGSYS" in str(guests.view(order.uuid).fault), "the agent can tell what its children died of"


def test_hot_plug_by_descriptors(node: Node, guests: Guests, directory: Path) -> None:
    """A disk and a NIC reach a running guest through its monitor: the process could open neither by itself."""
    guest = guests.boot(an_order(ports=0))
    assert guests.view(guest.uuid).machine is not None
    node.stop()  # its monitor has room for one
    run = node.directory / "run" / "guests" / guest.uuid
    disk = directory / f"{guest.uuid}.raw"
    disk.write_bytes(bytes(1 << 20))
    taps = open_tap(f"hot{uuid.uuid4().hex[:8]}", "52:54:00:00:00:01", 1500)
    with disk.open("r+b") as file, QEMUMonitorProtocol(str(run / "monitor.sock")) as monitor:
        monitor.connect()
        monitor.send_fd_scm(file.fileno())
        monitor.cmd("add-fd", **{"fdset-id": 77})
        node_name = {"driver": "raw", "node-name": "hot", "file": {"driver": "file", "filename": "/dev/fdset/77"}}
        monitor.cmd("blockdev-add", **node_name)
        monitor.cmd("device_add", driver="virtio-blk-pci", id="hot", drive="hot", bus="rp5")
        monitor.send_fd_scm(taps[0])
        monitor.cmd("getfd", fdname="tap")
        monitor.cmd("netdev_add", type="tap", id="hotnet", fd="tap")
        monitor.cmd("device_add", driver="virtio-net-pci", id="hotnic", netdev="hotnet", bus="rp6", romfile="")
    os.close(taps[0])
    node.start()
    until(lambda: _typed(run / "console.sock", "ls /sys/block /sys/class/net\n", "vdb", "eth0"), BOOT_SECONDS)
    disk.unlink()


def _typed(console: Path, line: str, *expected: str) -> bool:
    with socket.socket(socket.AF_UNIX) as person:
        person.settimeout(2)
        person.connect(str(console))
        person.sendall(line.encode())
        answer = ""
        try:
            while not all(word in answer for word in expected):
                answer += person.recv(4096).decode(errors="replace")
        except TimeoutError:
            return False
    return True
