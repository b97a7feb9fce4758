"""The agent's side of `vmm`: its fork server, and what the driver does to a process that only has a monitor."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import msgspec
import pytest

from compute_agent.errors import GuestStartFailed, MonitorError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import BootFiles, Disk, FileSource, VhostUserSource
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import GuestExit, StartRequest
from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm.driver import VmmHypervisor
from compute_agent.virt.vmm.guest import VmmGuest
from compute_agent.virt.vmm.support import Support
from tests.functional.guests import until
from tests.functional.machine_stand_in import BROKEN, FORK_SERVER

UUID = "5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11"
SECONDS = 20.0


@pytest.fixture
def settings(directory: Path) -> VirtSettings:
    return VirtSettings(
        state_dir=directory / "machine" / "state",
        run_dir=directory / "machine" / "run",
        cgroup_dir=directory / "machine" / "none" / "guests",
    )


@pytest.fixture
def exits() -> Queue[GuestExit]:
    return Queue()


@pytest.fixture
def make_hypervisor(settings: VirtSettings, exits: Queue[GuestExit]) -> Iterator[Callable[[], VmmHypervisor]]:
    """Each call is another life of the agent; the last one ends what still runs."""
    made: list[VmmHypervisor] = []

    def make() -> VmmHypervisor:
        if made:
            made[-1].close()
        made.append(VmmHypervisor(settings, exits.put, find=lambda _: Support(problem=None, max_vcpus=1000)))
        launcher = made[-1]._launch._launcher
        assert launcher is not None
        launcher._command = [sys.executable, "-c", FORK_SERVER]
        return made[-1]

    yield make
    guest = made[-1].adopt(UUID)
    if guest is not None:
        guest.kill()
    made[-1].forget(UUID)
    made[-1].close()


@pytest.fixture
def hypervisor(make_hypervisor: Callable[[], VmmHypervisor]) -> VmmHypervisor:
    return make_hypervisor()


@pytest.fixture
def request_(hypervisor: VmmHypervisor, directory: Path) -> Iterator[StartRequest]:
    """With a disk, which is served by nobody."""
    instance = Instance(
        uuid=UUID,
        name="machine",
        flavor=Flavor(vcpus=1, memory_mb=64),
        block_devices=[BlockDevice(source_type="blank", size_gb=1)],
        config_drive=False,
    )
    kernel = directory / "kernel"
    kernel.write_bytes(b"kernel")
    ours, disk = a_disk("disk0")
    with ours:
        yield StartRequest(
            instance=instance,
            machine=hypervisor.design(instance),
            disks=[disk],
            nics=[],
            boot=BootFiles(kernel=kernel, ramdisk=None, command_line="quiet"),
        )
    disk.close()


def a_disk(name: str) -> tuple[socket.socket, Disk]:
    """And its server's end of the connection."""
    ours, theirs = socket.socketpair()
    return ours, Disk(name=name, source=VhostUserSource(fd=theirs.detach()))


def looks(guest: VmmGuest) -> Any:
    """What the process has told of itself."""
    return guest.diagnostics()["counters"]


def test_process_is_nobody_sees_nothing_and_has_what_it_was_given(
    hypervisor: VmmHypervisor, request_: StartRequest, settings: VirtSettings, directory: Path
) -> None:
    guest = hypervisor.start(request_)
    found = looks(guest)
    assert found["uid"] == settings.guest_uid_base
    assert found["pid"] == 1
    assert "home" not in found["root"]
    status = Path(f"/proc/{guest.pid}/status").read_text()
    assert "Name:\tvmm\n" in status
    assert "CapEff:\t0000000000000000\n" in status
    assert "Seccomp:\t2\n" in status
    links = [str(entry.readlink()) for entry in Path(f"/proc/{guest.pid}/fd").iterdir()]
    kinds = [link.partition(":")[0] for link in links]
    assert kinds.count("socket") == 4, "monitor, its client, console and the disk's server"
    assert {link for link in links if str(directory) in link} == {
        str(directory / "kernel"),
        str(settings.state_dir / UUID / "process.log"),
    }
    assert found["imported"] == [], "there are no modules where it lives"


def test_a_machine_lives_as_every_guest(
    hypervisor: VmmHypervisor, request_: StartRequest, exits: Queue[GuestExit]
) -> None:
    guest = hypervisor.start(request_)
    assert guest.status() is PowerState.RUNNING
    assert hypervisor.start(request_) is guest
    until(lambda: b"it runs\n" in hypervisor.console_output(UUID, 100))
    guest.pause()
    assert guest.status() is PowerState.PAUSED
    guest.resume()
    guest.press_power_button()
    assert exits.get(timeout=SECONDS).reason == "powered_off"
    assert guest.status() is PowerState.SHUTDOWN
    guest.kill()
    assert hypervisor.adopt(UUID) is None
    assert exits.empty()


def test_machine_outlives_its_agent(
    make_hypervisor: Callable[[], VmmHypervisor], request_: StartRequest, exits: Queue[GuestExit]
) -> None:
    pid = make_hypervisor().start(request_).pid
    successor = make_hypervisor()
    guest = successor.adopt(UUID)
    assert guest is not None
    assert (guest.pid, guest.status(), successor.inspect()) == (pid, PowerState.RUNNING, {UUID})
    os.kill(pid, signal.SIGKILL)
    assert exits.get(timeout=SECONDS).reason == "crashed"


def test_disks_come_and_go(hypervisor: VmmHypervisor, request_: StartRequest) -> None:
    guest = hypervisor.start(request_)
    server, disk = a_disk("disk1")
    machine = hypervisor.add_disk(request_.machine, BlockDevice(source_type="blank", size_gb=1, device_name="disk1"))
    guest.attach_disk(disk, machine)
    assert guest.has_device("disk1")
    guest.resize_disk("disk1", 1 << 21)
    guest.reconnect_disk(disk)
    guest.resize_disk("disk1", None)
    assert guest.diagnostics()["disks"] == {"disk0": {"size": 1 << 20}, "disk1": {"size": 1 << 21}}
    guest.detach_disk("disk1")
    guest.detach_disk("disk1")
    disk.close()
    with server:
        server.settimeout(SECONDS)
        assert server.recv(1) == b"", "nobody has the other end any more"
    assert guest.open_disks is None, "its block server has them"


def test_refused_disk_is_let_go_of(hypervisor: VmmHypervisor, request_: StartRequest) -> None:
    guest = hypervisor.start(request_)
    server, disk = a_disk("disk1")
    with pytest.raises(MonitorError, match="Expected `int`"):
        guest.attach_disk(disk, msgspec.structs.replace(request_.machine, slots={"disk1": "nowhere"}))
    disk.close()
    with server:
        server.settimeout(SECONDS)
        assert server.recv(1) == b""


def test_process_that_fails_says_why_in_its_log(hypervisor: VmmHypervisor, request_: StartRequest) -> None:
    flavor = msgspec.structs.replace(request_.instance.flavor, vcpus=BROKEN)
    broken = replace(request_, instance=msgspec.structs.replace(request_.instance, flavor=flavor))
    with pytest.raises(GuestStartFailed, match="this machine is broken"):
        hypervisor.start(broken)
    assert hypervisor.adopt(UUID) is None


def test_files_that_are_missing_fail_the_start(hypervisor: VmmHypervisor, request_: StartRequest) -> None:
    boot = BootFiles(kernel=Path("/does/not/exist"), ramdisk=None, command_line="")
    with pytest.raises(GuestStartFailed, match="/does/not/exist"):
        hypervisor.start(replace(request_, boot=boot))
    disk = replace(request_.disks[0], source=FileSource(path=Path("/dev/null"), format="raw"))
    with pytest.raises(GuestStartFailed, match="disk0: vmm needs a block server"):
        hypervisor.start(replace(request_, disks=[disk]))
    assert hypervisor.adopt(UUID) is None
