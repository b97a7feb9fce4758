"""The monitor of a machine of our own, asked by the client that drives QEMU, and by clients that are not well."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from compute_agent.errors import MonitorError
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Monitor, MonitorLoop
from compute_agent.host.unix_sockets import listen_at
from compute_agent.virt.vmm.monitor.command import Arguments, Command, Commands, Files, Nothing
from compute_agent.virt.vmm.monitor.framing import LONGEST
from compute_agent.virt.vmm.monitor.server import MonitorServer
from tests.unit.virt.waiting import until

VERSION = {"qemu": {"major": 0, "minor": 1, "micro": 0}, "package": "vmm"}


class Sum(Arguments, frozen=True):
    first_number: int
    second_number: int = 0


class Named(Arguments, frozen=True):
    fd: str


def add(arguments: Sum, _: Files) -> object:
    if arguments.second_number < 0:
        raise MonitorError("second-number is negative")
    return arguments.first_number + arguments.second_number


def content(arguments: Named, files: Files) -> object:
    with os.fdopen(files.take(arguments.fd)) as file:
        return file.read()


class Listener:
    """Remembers events."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def hear(self, event: Mapping[str, Any]) -> None:
        self.heard.append(event["event"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "monitor.sock"


@pytest.fixture
def server(path: Path) -> Iterator[MonitorServer]:
    listener = listen_at(path)
    commands: Commands = {
        "add": Command(Sum, add),
        "content": Command(Named, content),
        "fail": Command(Nothing, lambda *_: None),
    }
    server = MonitorServer(listener, commands, VERSION)
    yield server
    server.close()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def monitor(path: Path, server: MonitorServer, listener: Listener) -> Iterator[Monitor]:
    """As the agent has it; the process that it watches is ours."""
    loop = MonitorLoop()
    monitor = Monitor(loop, path, Process(os.getpid(), os.pidfd_open(os.getpid())), listener.hear)
    yield monitor
    monitor.close()
    loop.close()


def test_answers_typed_commands(monitor: Monitor) -> None:
    assert monitor.execute("add", {"first-number": 2, "second-number": 3}, deadline=5) == 5
    assert monitor.execute("fail", deadline=5) == {}
    assert {"name": "add"} in monitor.execute("query-commands", deadline=5)


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("nothing", {}, "The command nothing has not been found"),
        ("add", {}, "missing required field `first-number`"),
        ("add", {"first-number": "2"}, "Expected `int`, got `str`"),
        ("add", {"first-number": 2, "third": 1}, "unknown field `third`"),
        ("add", {"first-number": 2, "second-number": -1}, "second-number is negative"),
        ("content", {"fd": "nobody"}, "File descriptor named 'nobody' has not been found"),
        ("getfd", {"fdname": "none"}, "No file descriptor supplied"),
        ("qmp_capabilities", {}, "has not been found"),
    ],
)
def test_refuses_by_name_and_goes_on(monitor: Monitor, command: str, arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(MonitorError, match=reason):
        monitor.execute(command, arguments, deadline=5)
    assert monitor.execute("add", {"first-number": 1}, deadline=5) == 1


def test_takes_descriptors(monitor: Monitor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("handed over")
    with (tmp_path / "file").open() as file:
        monitor.execute("getfd", {"fdname": "it"}, deadline=5, fd=file.fileno())
    assert monitor.execute("content", {"fd": "it"}, deadline=5) == "handed over"
    with pytest.raises(MonitorError):
        monitor.execute("content", {"fd": "it"}, deadline=5)


def test_tells_of_events(monitor: Monitor, server: MonitorServer, listener: Listener) -> None:
    monitor.execute("add", {"first-number": 1}, deadline=5)
    server.tell("STOP")
    server.tell("RESUME")
    until(lambda: listener.heard == ["STOP", "RESUME"])


class Client:
    """One that does as it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(str(path))
        self._stream = self.socket.makefile("rb")

    def say(self, text: str | bytes) -> None:
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def hear(self) -> Any:
        return json.loads(self._stream.readline())

    def is_hung_up_on(self) -> bool:
        """Without reading, for one that reads is not hung up on."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(happened & select.POLLHUP for _, happened in poll.poll(5000))

    def close(self) -> None:
        self._stream.close()
        self.socket.close()


@pytest.fixture
def client(path: Path, server: MonitorServer) -> Iterator[Client]:
    client = Client(path)
    assert client.hear() == {"QMP": {"version": VERSION, "capabilities": []}}
    yield client
    client.close()


def test_wants_to_be_greeted_first(client: Client) -> None:
    client.say('{"execute": "add", "arguments": {"first-number": 1}, "id": "a"}')
    answer = client.hear()
    assert (answer["error"]["class"], answer["id"]) == ("CommandNotFound", "a")
    client.say(
        '{"execute": "qmp_capabilities"}{"execute": "add", "arguments": {"first-number": 7}, "id": [1, {"x": 2}]}'
    )
    assert [client.hear(), client.hear()] == [{"return": {}}, {"return": 7, "id": [1, {"x": 2}]}]


def test_takes_commands_apart_wherever_they_are_cut(client: Client) -> None:
    client.say('{"execute": "qmp_capabilities"}')
    client.hear()
    text = r'{"execute": "none {[\"}", "arguments": {"\\": "]\u007d"}}'
    for character in text:
        client.say(character)
    assert "none {[" in client.hear()["error"]["desc"]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense}{}",
        "[1, 2]{}",
        "{]}",
        '{"execute": 1}',
        b'{"execute": "\xff"}',
        b'{"execute": "query-status", "id": "\xff"}',
        "{}{}",
    ],
)
def test_nonsense_is_answered_and_nothing_else(client: Client, text: str | bytes) -> None:
    client.say(text)
    assert client.hear()["error"]["class"] == "GenericError"
    client.say('}]""\n')
    client.say('{"execute": "qmp_capabilities"}{"execute": "qmp_capabilities"}{"execute": "fail", "id": 1}')
    while client.hear() != {"return": {}, "id": 1}:
        pass


def test_who_never_ends_is_hung_up_on_and_the_next_is_served(client: Client, path: Path) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        client.say("[" * (LONGEST + 2))
    assert client.is_hung_up_on()
    following = Client(path)
    assert "QMP" in following.hear()
    following.close()


def test_who_does_not_read_is_hung_up_on(client: Client, server: MonitorServer) -> None:
    client.say('{"execute": "qmp_capabilities"}')
    client.hear()
    for _ in range(100):
        server.tell("NOISE", {"text": "x" * 100_000})
    assert client.is_hung_up_on()


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_descriptors_that_nobody_takes_go_with_the_client(path: Path, server: MonitorServer) -> None:
    before = open_files()
    client, (read, write) = Client(path), os.pipe()
    socket.send_fds(client.socket, [b'{"execute": "qmp_capabilities"}'], [write])
    client.hear()
    client.hear()
    client.say('{"execute": "getfd", "arguments": {"fdname": "it"}}')
    assert client.hear() == {"return": {}}
    os.close(write)
    client.close()
    assert os.read(read, 1) == b""
    os.close(read)
    until(lambda: open_files() <= before)  # others' may have gone meanwhile
