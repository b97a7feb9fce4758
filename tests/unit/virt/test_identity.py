"""Which process is whose guest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.virt.process.identity import claim_user, environment_of, find_guests
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.settings import VirtSettings
from tests.processes.virt.conftest import UUID
from tests.unit.virt.waiting import until


@pytest.fixture
def paths(settings: VirtSettings) -> GuestPaths:
    return GuestPaths.of(settings, UUID)


@pytest.fixture
def process(settings: VirtSettings, paths: GuestPaths) -> Iterator[subprocess.Popen[bytes]]:
    """A guest of the agent's own user, as far as its environment tells."""
    claim_user(settings, paths, "qemu")
    with subprocess.Popen(["/bin/sleep", "60"], env=environment_of(paths)) as process:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        yield process
        process.kill()


def test_guest_is_found_by_its_mark(settings: VirtSettings, process: subprocess.Popen[bytes]) -> None:
    found = find_guests(settings, "qemu")
    assert {uuid: one.pid for uuid, one in found.items()} == {UUID: process.pid}


def test_guest_of_another_agent_is_not_ours(
    settings: VirtSettings, directory: Path, process: subprocess.Popen[bytes]
) -> None:
    (directory / "other").mkdir()
    assert process.poll() is None
    assert find_guests(replace(settings, run_dir=directory / "other"), "qemu") == {}


def test_guest_of_another_hypervisor_is_not_ours(
    settings: VirtSettings, paths: GuestPaths, process: subprocess.Popen[bytes]
) -> None:
    assert find_guests(settings, "vmm") == {}
    claim_user(settings, paths, "vmm")
    assert (list(find_guests(settings, "vmm")), find_guests(settings, "qemu")) == ([UUID], {})


def test_guest_from_before_there_were_two_hypervisors_is_qemus(
    settings: VirtSettings, paths: GuestPaths, process: subprocess.Popen[bytes]
) -> None:
    (paths.run / "hypervisor").unlink()
    assert (list(find_guests(settings, "qemu")), find_guests(settings, "vmm")) == ([UUID], {})


def test_unconfined_guest_is_of_our_own_user(settings: VirtSettings, paths: GuestPaths) -> None:
    assert claim_user(settings, paths, "qemu") == os.geteuid()
    assert paths.run.stat().st_mode & 0o777 == 0o700
