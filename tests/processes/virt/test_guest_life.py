"""A guest's life on real QEMU."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from queue import Queue
from unittest import mock

import pytest

from compute_agent.errors import GuestGone, GuestStartFailed, MonitorError
from compute_agent.host.qmp import Monitor
from compute_agent.instance.devices import FileSource
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import GuestExit, StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.qemu.guest import QemuGuest
from tests.processes.virt.conftest import UUID
from tests.unit.virt.waiting import DEADLINE, say, until_said


@pytest.fixture
def guest(hypervisor: QemuHypervisor, request_: StartRequest) -> QemuGuest:
    """One that has booted."""
    guest = hypervisor.start(request_)
    until_said(hypervisor, UUID, b">")
    return guest


def test_pauses_resumes_and_talks(hypervisor: QemuHypervisor, guest: QemuGuest) -> None:
    assert guest.status() is PowerState.RUNNING
    guest.pause()
    guest.pause()
    assert guest.status() is PowerState.PAUSED
    guest.resume()
    guest.resume()
    assert guest.status() is PowerState.RUNNING
    say(hypervisor, UUID, b"x")
    until_said(hypervisor, UUID, b">x")


def test_start_again_finds_the_running_guest(
    hypervisor: QemuHypervisor, guest: QemuGuest, request_: StartRequest
) -> None:
    assert hypervisor.start(request_) is guest
    assert guest.status() is PowerState.RUNNING


def test_power_button_then_reset_revives(hypervisor: QemuHypervisor, guest: QemuGuest, exits: Queue[GuestExit]) -> None:
    assert not guest.wait_for_shutdown(0)
    guest.press_power_button()
    assert guest.wait_for_shutdown(DEADLINE)
    assert guest.status() is PowerState.SHUTDOWN
    assert exits.get(timeout=DEADLINE).reason == "powered_off"
    with pytest.raises(MonitorError, match="cont"):
        guest.resume()
    guest.reset()
    assert guest.status() is PowerState.RUNNING
    until_said(hypervisor, UUID, b">>")
    assert not guest.wait_for_shutdown(0)


def test_guest_that_powered_itself_off_is_told_and_can_be_started_anew(
    hypervisor: QemuHypervisor, guest: QemuGuest, exits: Queue[GuestExit], request_: StartRequest
) -> None:
    say(hypervisor, UUID, b"q")
    assert exits.get(timeout=DEADLINE) == GuestExit(
        instance_uuid=UUID, reason="powered_off", detail="the guest powered itself off (guest-shutdown)"
    )
    guest.kill()
    again = hypervisor.start(request_)
    assert again.pid != guest.pid
    assert guest.status() is PowerState.SHUTDOWN
    until_said(hypervisor, UUID, b">q>")
    assert exits.empty()


def test_crash_is_reported_at_once_and_leaves_the_console(
    hypervisor: QemuHypervisor, guest: QemuGuest, exits: Queue[GuestExit]
) -> None:
    os.kill(guest.pid, signal.SIGKILL)
    crash = exits.get(timeout=DEADLINE)
    assert (crash.reason, "SIGKILL" in crash.detail) == ("crashed", True)
    assert guest.status() is PowerState.SHUTDOWN
    assert guest.wait_for_shutdown(0)
    assert hypervisor.adopt(UUID) is None
    assert hypervisor.console_output(UUID, 100) == b">"
    with pytest.raises(GuestGone):
        guest.pause()
    assert not Path(f"/proc/{guest.pid}").exists(), "a zombie is left"


def test_kill_is_no_news_and_forget_leaves_nothing(
    hypervisor: QemuHypervisor, guest: QemuGuest, exits: Queue[GuestExit], directory: Path
) -> None:
    assert hypervisor.inspect() == {UUID}
    guest.kill()
    guest.kill()
    assert hypervisor.inspect() == {UUID}
    hypervisor.forget(UUID)
    hypervisor.forget(UUID)
    assert hypervisor.inspect() == set()
    assert exits.empty()
    assert [entry.name for entry in directory.glob("*/*")] == []


def test_memory_is_saved_and_loaded(hypervisor: QemuHypervisor, guest: QemuGuest, request_: StartRequest) -> None:
    state = hypervisor.saved_state_path(UUID)
    guest.pause()
    guest.save(state)
    guest.save(state)
    assert guest.status() is PowerState.PAUSED
    guest.kill()
    loaded = hypervisor.start(replace(request_, saved_state=state))
    assert loaded.status() is PowerState.PAUSED
    loaded.resume()
    say(hypervisor, UUID, b"y")
    until_said(hypervisor, UUID, b">y")


def test_guest_survives_a_failed_save(hypervisor: QemuHypervisor, guest: QemuGuest) -> None:
    state = hypervisor.saved_state_path(UUID)
    state.with_name(state.name + ".part").symlink_to("/dev/full")
    guest.pause()
    with pytest.raises(MonitorError, match="No space left"):
        guest.save(state)
    assert sorted(path.name for path in state.parent.glob("memory*")) == []
    guest.resume()
    say(hypervisor, UUID, b"z")
    until_said(hypervisor, UUID, b">z")


def test_whose_monitor_says_what_none_says_is_unresponsive(guest: QemuGuest) -> None:
    for said in (5, None, [], {}, {"status": ["running"]}):
        with mock.patch.object(Monitor, "execute", return_value=said):
            assert guest.status() is PowerState.UNRESPONSIVE, said
    assert guest.status() is PowerState.RUNNING


def test_diagnostics_are_plain_values(guest: QemuGuest) -> None:
    found = guest.diagnostics()
    assert found["kvm"] is False
    assert found["state"] == "running"
    assert found["disks"]["disk0"]["read_requests"] > 0  # type: ignore[index]
    assert found["memory"]["balloon"] == 16 * 1024 * 1024  # type: ignore[index]


def test_refused_start_says_why_and_leaves_no_process(
    hypervisor: QemuHypervisor, request_: StartRequest, exits: Queue[GuestExit]
) -> None:
    disk = replace(request_.disks[0], source=FileSource(path=Path("/does/not/exist"), format="raw"))
    with pytest.raises(GuestStartFailed, match="/does/not/exist"):
        hypervisor.start(replace(request_, disks=[disk]))
    assert hypervisor.adopt(UUID) is None
    assert exits.empty()


def test_damaged_saved_state_fails_the_start(
    hypervisor: QemuHypervisor, request_: StartRequest, directory: Path
) -> None:
    damaged = directory / "damaged"
    damaged.write_bytes(b"this is no guest")
    with pytest.raises(GuestStartFailed, match="stream"):
        hypervisor.start(replace(request_, saved_state=damaged))
    assert hypervisor.adopt(UUID) is None
