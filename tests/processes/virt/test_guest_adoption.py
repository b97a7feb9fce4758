"""The agent dies, its guests do not; and a guest that does not answer holds up nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Queue

import pytest

from compute_agent.errors import DeadlineExceeded
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import GuestExit, StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from tests.processes.virt.conftest import UUID, MakeHypervisor, tiny_request
from tests.unit.virt.waiting import DEADLINE, say, until, until_said

ROOT = Path(__file__).parents[3]

_AGENT = """
import sys
from pathlib import Path
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from tests.processes.virt.conftest import UUID, tiny_request
from tests.unit.virt.waiting import until_said
directory = Path(sys.argv[1])
settings = VirtSettings(
    state_dir=directory / "state", run_dir=directory / "run", accelerator="tcg", confine_guests=False
)
hypervisor = QemuHypervisor(settings, print)
guest = hypervisor.start(tiny_request(hypervisor, directory))
until_said(hypervisor, UUID, b">")
print(guest.pid, flush=True)
sys.stdin.read()
"""


def test_guest_outlives_a_killed_agent(
    make_hypervisor: MakeHypervisor, directory: Path, exits: Queue[GuestExit]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _AGENT, directory], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        agent.kill()
    hypervisor = make_hypervisor()
    assert hypervisor.inspect() == {UUID}
    guest = hypervisor.adopt(UUID)
    assert guest is not None
    assert (guest.pid, guest.status()) == (pid, PowerState.RUNNING)
    say(hypervisor, UUID, b"x")
    until_said(hypervisor, UUID, b">x")
    os.kill(pid, signal.SIGKILL)
    assert exits.get(timeout=DEADLINE).reason == "crashed"


def test_start_completes_what_a_killed_agent_began(
    hypervisor: QemuHypervisor, request_: StartRequest, make_hypervisor: MakeHypervisor
) -> None:
    """The vCPUs do not run yet, and QEMU's console is still as QEMU opened it."""
    pid = hypervisor._start_process(request_).pid
    successor = make_hypervisor()
    guest = successor.start(request_)
    assert (guest.pid, guest.status()) == (pid, PowerState.RUNNING)
    until_said(successor, UUID, b">")


def test_guest_found_powered_off_is_shut_down(
    hypervisor: QemuHypervisor, request_: StartRequest, make_hypervisor: MakeHypervisor
) -> None:
    hypervisor.start(request_)
    until_said(hypervisor, UUID, b">")
    say(hypervisor, UUID, b"q")
    guest = make_hypervisor().adopt(UUID)
    assert guest is not None
    until(lambda: guest.status() is PowerState.SHUTDOWN)
    assert guest.wait_for_shutdown(0)


@pytest.mark.parametrize("when", ["connected", "before the connection"])
def test_silent_guest_is_unresponsive_and_comes_back(
    when: str, make_hypervisor: MakeHypervisor, directory: Path
) -> None:
    hypervisor = make_hypervisor(command_timeout=0.3)
    guest = hypervisor.start(tiny_request(hypervisor, directory))
    os.kill(guest.pid, signal.SIGSTOP)
    if when != "connected":
        hypervisor = make_hypervisor(command_timeout=0.3)
        adopted = hypervisor.adopt(UUID)
        assert adopted is not None
        guest = adopted
    began = time.monotonic()
    assert guest.status() is PowerState.UNRESPONSIVE
    assert 0.3 <= time.monotonic() - began < 2
    assert guest.status() is PowerState.UNRESPONSIVE
    with pytest.raises(DeadlineExceeded):
        guest.pause()
    os.kill(guest.pid, signal.SIGCONT)
    until(lambda: guest.status() is not PowerState.UNRESPONSIVE)
    guest.resume()
    assert guest.status() is PowerState.RUNNING


def test_another_agents_guest_is_left_alone(
    hypervisor: QemuHypervisor, request_: StartRequest, make_hypervisor: MakeHypervisor, directory: Path
) -> None:
    guest = hypervisor.start(request_)
    other = make_hypervisor(run_dir=directory / "other")
    assert other.adopt(UUID) is None
    until_said(make_hypervisor(), UUID, b">")
    assert guest.process.has_ended() is False
