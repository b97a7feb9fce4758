"""Copies of a running guest's disks, and what has changed since, on real QEMU."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.block.copies import DiskCopy
from compute_agent.errors import DeadlineExceeded, MonitorError
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from tests.processes.virt.conftest import UUID, MakeHypervisor, tiny_request
from tests.unit.virt.waiting import start_up, until


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


def test_a_running_guests_copy_is_compressed(
    hypervisor: QemuHypervisor, request_: StartRequest, directory: Path
) -> None:
    copy = a_copy(directory, "small")
    assert isinstance(copy.target, FileSource)
    guest = hypervisor.start(request_)
    guest.copies.begin("one", [replace(copy, target=replace(copy.target, compressed=True))])
    assert guest.copies.progress("one", 10) == 100
    guest.copies.end()
    assert "100.00% compressed clusters" in _output("qemu-img", "check", str(directory / "small.qcow2"))
    same = ["qemu-img", "compare", "--force-share", str(directory / "small.qcow2"), str(directory / "disk.qcow2")]
    assert "identical" in _output(*same)


def test_what_is_cancelled_leaves_nothing(hypervisor: QemuHypervisor, request_: StartRequest, directory: Path) -> None:
    guest = hypervisor.start(request_)
    guest.copies.begin("one", [a_copy(directory, "full")])
    guest.copies.end()
    guest.copies.end()
    with pytest.raises(MonitorError, match="does not copy them any more"):
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


@pytest.fixture
def server(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Exports an empty image, as large as the disk, on a unix socket."""
    _output("qemu-img", "create", "-f", "qcow2", str(directory / "exported.qcow2"), "1M")
    words = ("-t", "-f", "qcow2", "-k", directory / "nbd.sock", "-x", "disk0", directory / "exported.qcow2")
    process = subprocess.Popen(["qemu-nbd", *words])
    yield process
    process.kill()
    process.wait()


def connected(directory: Path) -> socket.socket:
    """A server that has just made its socket may not listen on it yet."""
    connection = socket.socket(socket.AF_UNIX)
    until(lambda: connection.connect_ex(str(directory / "nbd.sock")) == 0)
    return connection


def a_copy_to(connection: socket.socket) -> DiskCopy:
    return DiskCopy(disk="disk0", target=NbdSource(export="disk0", fd=connection.detach()), mark="full")


def test_a_raw_disk_remembers_as_long_as_its_process(
    hypervisor: QemuHypervisor, directory: Path, server: subprocess.Popen[bytes]
) -> None:
    request = tiny_request(hypervisor, directory)
    guest = hypervisor.start(request)
    guest.copies.begin("one", [a_copy_to(connected(directory))])
    assert guest.copies.progress("one", 10) == 100
    guest.copies.end()
    assert guest.copies.marks("disk0") == {"full"}
    guest.kill()
    server.kill()
    server.wait()
    same = ("qemu-img", "compare", "-f", "qcow2", "-F", "raw", directory / "exported.qcow2", directory / "disk.raw")
    assert "identical" in _output(*map(str, same))
    assert hypervisor.start(request).copies.marks("disk0") == set()


def pass_on(source: socket.socket, target: socket.socket, longest: int) -> None:
    """Until there is a longer piece, which is held back for ever."""
    with suppress(OSError):
        while (piece := source.recv(1 << 20)) and len(piece) <= longest:
            target.sendall(piece)


@pytest.fixture
def silent(directory: Path, server: subprocess.Popen[bytes]) -> Iterator[DiskCopy]:
    """A copy to a server that falls silent while the first block is written to it."""
    theirs, ours = socket.socketpair()
    with ours, connected(directory) as far:
        ways = ((ours, far, 4096), (far, ours, 1 << 20))
        threads = [threading.Thread(target=pass_on, args=way) for way in ways]
        for thread in threads:
            thread.start()
        copy = a_copy_to(theirs)
        yield copy
        assert isinstance(copy.target, NbdSource)
        copy.target.close()
        for end in (ours, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def test_a_server_that_falls_silent_is_given_up(
    make_hypervisor: MakeHypervisor, request_: StartRequest, silent: DiskCopy
) -> None:
    """Nothing that the guest's process does waits for it."""
    hypervisor = make_hypervisor(copy_halt_timeout=0.5)
    guest = start_up(hypervisor, request_)
    guest.copies.begin("one", [silent])
    with pytest.raises(MonitorError, match=r"nothing has been copied for 0\.5 s"):
        until(lambda: guest.copies.progress("one", 0.1) == 100)
    guest.copies.end()
    assert guest.status() is PowerState.RUNNING


def test_a_guest_that_is_reset_meanwhile_is_freed(
    make_hypervisor: MakeHypervisor, request_: StartRequest, silent: DiskCopy
) -> None:
    """QEMU waits for the server before it resets a disk, and answers nobody until then."""
    hypervisor = make_hypervisor(command_timeout=1.0)
    guest = start_up(hypervisor, request_)
    guest.copies.begin("one", [silent])
    with suppress(DeadlineExceeded):
        guest.reset()
    with pytest.raises(DeadlineExceeded):
        until(lambda: guest.copies.progress("one", 0.1) == 100)
    until(lambda: guest.status() is PowerState.RUNNING)
    guest.copies.end()
    assert guest.copies.marks("disk0") == {"full"}
