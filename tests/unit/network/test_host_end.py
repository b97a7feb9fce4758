"""The tap's name, vhost-net's modes, and the poller: what needs neither root nor a switch."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import NetworkError
from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.tap import open_tap, refuse_taken, tap_name
from compute_agent.network.ovs.vhost import open_vhost

PORT_ID = "edf403bc-4a9e-421d-9e6f-a18d35984ce0"


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_tap_is_named_as_neutron_names_it() -> None:
    assert tap_name(PORT_ID) == "tapedf403bc-4a"


def test_a_name_that_is_taken_is_refused() -> None:
    refuse_taken([tap_name(PORT_ID)])
    with pytest.raises(NetworkError, match="tap lo is busy"):
        refuse_taken([tap_name(PORT_ID), "lo"])


def test_a_tap_that_cannot_be_made_leaves_no_descriptor() -> None:
    before = open_descriptors()
    with pytest.raises(NetworkError, match=r"tap lo (is busy|cannot be made)"):
        open_tap("lo", "52:54:00:00:00:01", 1500, queues=2)
    assert open_descriptors() <= before


@pytest.fixture
def device(tmp_path: Path) -> str:
    path = tmp_path / "vhost-net"
    path.touch()
    return str(path)


def test_vhost_has_a_descriptor_for_each_queue_that_no_child_inherits(device: str) -> None:
    fds = open_vhost("auto", 3, device)
    try:
        assert [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in fds] == [device] * 3
        assert not any(os.get_inheritable(fd) for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)


def test_vhost_is_left_out_where_it_is_off_or_the_host_has_none(device: str) -> None:
    assert open_vhost("off", 1, device) == ()
    assert open_vhost("auto", 1, device + "-missing") == ()


def test_vhost_that_must_be_there_and_is_not_is_an_error(device: str) -> None:
    with pytest.raises(NetworkError, match=r"vhost_net is on, but .*-missing cannot be opened: No such file"):
        open_vhost("on", 1, device + "-missing")


@pytest.fixture
def high_fd() -> Iterator[int]:
    """One that select(2) cannot wait for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    event = os.eventfd(1)
    fd = fcntl.fcntl(event, fcntl.F_DUPFD_CLOEXEC, 1500)
    yield fd
    os.close(fd)
    os.close(event)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_poller_takes_descriptors_beyond_1023(high_fd: int) -> None:
    poller = Poller()
    poller.fd_wait(high_fd, select.POLLIN)
    poller.timer_wait(60_000)
    began = time.monotonic()
    poller.block()
    assert time.monotonic() - began < 10


def test_the_poller_adds_up_what_is_waited_for() -> None:
    one, other = socket.socketpair()
    with one, other:
        poller = Poller()
        poller.fd_wait(one, select.POLLOUT)  # ready at once
        poller.fd_wait(one, select.POLLIN)  # never ready
        poller.timer_wait(60_000)
        began = time.monotonic()
        poller.block()
        assert time.monotonic() - began < 10


def test_the_poller_wakes_up_at_the_first_of_its_times() -> None:
    poller = Poller()
    poller.timer_wait(60_000)
    poller.timer_wait(1)
    poller.timer_wait(30_000)
    began = time.monotonic()
    poller.block()
    assert 0.001 <= time.monotonic() - began < 10
