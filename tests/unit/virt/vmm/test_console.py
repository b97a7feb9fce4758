"""Somebody at a machine's serial port; the port is a fake with a small queue."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.host.unix_sockets import listen_at
from compute_agent.virt.vmm.console import ConsoleServer
from tests.unit.virt.waiting import until


class Port:
    """Its guest reads when the test says so."""

    def __init__(self) -> None:
        self.client: socket.socket | None = None
        self.queue = b""

    def attach_client(self, client: socket.socket) -> None:
        self.client = client

    def detach_client(self) -> None:
        self.client = None

    def receive(self, data: bytes) -> int:
        fits = data[: 4 - len(self.queue)]
        self.queue += fits
        return len(fits)


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def path(tmp_path: Path, port: Port) -> Path:
    ConsoleServer(listen_at(tmp_path / "console.sock"), port)
    return tmp_path / "console.sock"


@pytest.fixture
def person(path: Path) -> Iterator[socket.socket]:
    with connect(path) as person:
        yield person


def connect(path: Path) -> socket.socket:
    person = socket.socket(socket.AF_UNIX)
    person.connect(str(path))
    return person


def test_what_is_typed_waits_until_the_guest_reads(port: Port, person: socket.socket) -> None:
    person.sendall(b"abcdefgh")
    until(lambda: port.queue == b"abcd")
    port.queue = b""
    until(lambda: port.queue == b"efgh")


def test_the_next_one_is_served_when_the_first_hangs_up(port: Port, path: Path, person: socket.socket) -> None:
    until(lambda: port.client is not None)
    with connect(path) as other:
        other.sendall(b"2")
        person.sendall(b"1")
        until(lambda: port.queue == b"1")
        person.close()
        until(lambda: port.queue == b"12")
    until(lambda: port.client is None)


def test_one_who_hangs_up_while_the_guest_does_not_read_is_not_waited_for(port: Port, path: Path) -> None:
    with connect(path) as person:
        person.sendall(b"abcdefgh")
        until(lambda: port.queue == b"abcd")
    until(lambda: port.client is None)
