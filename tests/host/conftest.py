"""Two virtual hosts for all tests here: their kernel is Debian's own, with KVM, vhost-net and Open vSwitch's datapath.

Run inside `devstack/sandbox/enter`: a network and a process namespace of their own. One pair at a time: two of them are
so slow on two processors that agents do not answer each other in time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from compute_agent.instance.machine import HypervisorName
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from sandbox import images
from sandbox.narrator import Narrator
from tests.functional.guests import Guests


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """A short path: unix sockets have to fit."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def lab(directory: Path) -> Iterator[Laboratory]:
    with Laboratory(directory / "lab", hosts=2, offers=["ceph", "directory"], say=Narrator().say) as lab:
        yield lab


@pytest.fixture
def host(lab: Laboratory) -> VirtualHost:
    """The first."""
    return lab.hosts[0]


@pytest.fixture
def other_host(lab: Laboratory) -> VirtualHost:
    """The second."""
    return lab.hosts[1]


@pytest.fixture
def guests(host: VirtualHost) -> Iterator[Guests]:
    """Boots tiny guests on the first host and terminates them after the test."""
    yield from _guests(host)


@pytest.fixture
def other_guests(other_host: VirtualHost) -> Iterator[Guests]:
    """The same on the second."""
    yield from _guests(other_host)


@pytest.fixture(params=get_args(HypervisorName))
def any_guests(host: VirtualHost, request: pytest.FixtureRequest) -> Iterator[Guests]:
    """The same on the first host, once with each hypervisor."""
    yield from _guests(host, request.param)


@pytest.fixture
def machines(host: VirtualHost) -> Iterator[Guests]:
    """The same on the first host, on machines of our own."""
    yield from _guests(host, "vmm")


@pytest.fixture
def sources() -> Iterator[Path]:
    """A directory from which agents take files."""
    with tempfile.TemporaryDirectory(prefix="sources-", dir=images.cache_directory()) as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def unasked_guests(host: VirtualHost) -> Iterator[Guests]:
    """The same on the first host, on what it chooses for them."""
    yield from _guests(host, None)


def _guests(host: VirtualHost, hypervisor: HypervisorName | None = "qemu") -> Iterator[Guests]:
    guests = Guests(host, hypervisor)
    yield guests
    guests.terminate_all()
