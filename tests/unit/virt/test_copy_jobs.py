"""Copies of a running guest's disks, and what has changed since, on real QEMU."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.errors import MonitorError
from compute_agent.instance.devices import FileSource
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.copies import DiskCopy
from compute_agent.virt.qemu.driver import QemuHypervisor
from tests.unit.virt.conftest import UUID, MakeHypervisor, tiny_request


@pytest.fixture
def request_(hypervisor: QemuHypervisor, directory: Path) -> StartRequest:
    """With a disk that remembers what is written to it."""
    path = directory / "disk.qcow2"
    request = tiny_request(hypervisor, directory)
    raw = str(directory / "disk.raw")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, str(path)], check=True)
    return replace(request, disks=[replace(request.disks[0], source=FileSource(path=path, format="qcow2"))])


def a_copy(directory: Path, name: str, since: str | None = None) -> DiskCopy:
    path = directory / f"{name}.qcow2"
    size = json.loads(_output("qemu-img", "info", "--force-share", "--output=json", str(directory / "disk.qcow2")))
    _output("qemu-img", "create", "-f", "qcow2", str(path), str(size["virtual-size"]))
    return DiskCopy(disk="disk0", target=FileSource(path=path, format="qcow2"), since=since, mark=name)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_next_agent_finds_the_copies_of_the_last(
    make_hypervisor: MakeHypervisor, request_: StartRequest, directory: Path
) -> None:
    guest = make_hypervisor().start(request_)
    assert guest.copies.begin("one", [a_copy(directory, "full")]) is False, "nobody in it to freeze anything"
    adopted = make_hypervisor().adopt(UUID)
    assert adopted is not None
    assert adopted.copies.begin("one", []) is None
    assert adopted.copies.progress("one", 10) == 100
    adopted.copies.end()
    assert adopted.copies.marks("disk0") == {"full"}
    same = ["qemu-img", "compare", "--force-share", str(directory / "full.qcow2"), str(directory / "disk.qcow2")]
    assert "identical" in _output(*same)


def test_what_is_cancelled_leaves_nothing(hypervisor: QemuHypervisor, request_: StartRequest, directory: Path) -> None:
    guest = hypervisor.start(request_)
    guest.copies.begin("one", [a_copy(directory, "full")])
    guest.copies.end()
    guest.copies.end()
    with pytest.raises(MonitorError, match="does not copy its disks"):
        guest.copies.progress("one", 0)
    guest.copies.forget_marks("disk0", [])
    assert guest.copies.marks("disk0") == set()
    assert guest.copies.begin("two", [a_copy(directory, "other")]) is False


def test_marks_outlive_the_guest_and_without_one_nothing_begins(
    hypervisor: QemuHypervisor, request_: StartRequest, directory: Path
) -> None:
    guest = hypervisor.start(request_)
    guest.copies.begin("one", [a_copy(directory, "full")])
    guest.copies.progress("one", 10)
    guest.copies.end()
    guest.kill()
    guest = hypervisor.start(request_)
    assert guest.copies.marks("disk0") == {"full"}
    with pytest.raises(MonitorError, match="older"):
        guest.copies.begin("two", [a_copy(directory, "second", since="older")])
    guest.copies.begin("two", [a_copy(directory, "second", since="full")])
    assert guest.copies.progress("two", 10) == 100
    guest.copies.end()
