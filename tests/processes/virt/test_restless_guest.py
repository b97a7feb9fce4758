"""Copies of the disk of a guest whose driver begins to use it at every moment, on real QEMU.

QEMU 7.2 aborts where a block job ends by itself meanwhile: in one of 20 to 60 copies of this guest's disk.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.block.copies import DiskCopy
from compute_agent.errors import MonitorError
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.state import PowerState
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.qemu.guest import QemuGuest
from tests.processes.virt.conftest import UUID, tiny_request
from tests.processes.virt.restless_guest import make_restless_disk
from tests.unit.virt.waiting import until, until_said

_TIMES = 60


@pytest.fixture
def guest(hypervisor: QemuHypervisor, directory: Path) -> QemuGuest:
    request = tiny_request(hypervisor, directory)
    make_restless_disk(directory / "disk.raw")
    guest = hypervisor.start(request)
    until_said(hypervisor, UUID, b"7777")
    return guest


@pytest.fixture
def full_server(directory: Path) -> Iterator[Path]:
    """The socket of a server with an export, as large as the disk, that has no room for data."""
    path = directory / "nbd.sock"
    error = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28"
    image = f"driver=blkdebug,{error},image.driver=null-co,image.size=1M"
    server = subprocess.Popen(["qemu-nbd", "-t", "-k", path, "-x", "disk0", "--image-opts", image])
    until(path.exists)
    yield path
    server.kill()
    server.wait()


def test_copies_end(guest: QemuGuest, directory: Path) -> None:
    target = directory / "copy.raw"
    for _ in range(_TIMES):
        target.write_bytes(bytes(1 << 20))
        guest.copies.begin("one", [DiskCopy(disk="disk0", target=FileSource(path=target, format="raw"))])
        until(lambda: guest.copies.progress("one", 1.0) == 100)
        guest.copies.end()
        assert target.read_bytes() == (directory / "disk.raw").read_bytes()
    assert guest.status() is PowerState.RUNNING


def test_copies_fail(guest: QemuGuest, full_server: Path) -> None:
    for _ in range(_TIMES // 6):
        with socket.socket(socket.AF_UNIX) as connection:
            until(lambda connection=connection: connection.connect_ex(str(full_server)) == 0)  # type: ignore[misc]
            target = NbdSource(export="disk0", fd=connection.fileno())
            guest.copies.begin("one", [DiskCopy(disk="disk0", target=target)])
            with pytest.raises(MonitorError, match="disk0 could not be copied: No space left on device"):
                until(lambda: guest.copies.progress("one", 1.0) == 100)
            guest.copies.end()
    assert guest.status() is PowerState.RUNNING
