"""console: the log, following it, and talking to a guest over a real socket and a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.cli.commands import console
from compute_agent.cli.commands.console import new_output
from compute_agent.cli.terminal import connect_console, converse
from compute_agent.errors import DeadlineExceeded
from tests.unit.cli.conftest import WEB1, Shell, Terminal


def test_the_log(shell: Shell) -> None:
    run = shell("console", "web1", "--length", "100")
    assert run.stdout == "console output\n"
    assert shell.client.requests == [("console", {"length": 100})]


def test_following_prints_each_line_once(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FOLLOW_INTERVAL", 0.0)
    shell.client.console = ["one\ntwo\n", "one\ntwo\n", "one\ntwo\nthree\n", "two\nthree\nfour\n"]
    run = shell("console", "web1", "--follow", "--length", "4")
    assert run.status == 130
    assert run.stdout == "two\nthree\nfour\n"


@pytest.mark.parametrize(
    ("seen", "output", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcdef", "def"),
        ("abcdef", "defghi", "ghi"),
        ("\n\n\n", "\n\n\n\n", "\n"),
        ("x" * 100 + "end", "x" * 90 + "end" + "more", "more"),
        ("é" + "abc", "\ufffdabcdef", "def"),
        ("before the reboot", "after", "after"),
        ("anything", "", ""),
    ],
)
def test_new_output(seen: str, output: str, new: str) -> None:
    assert new_output(seen, output) == new


def test_what_a_guest_writes_cannot_make_the_terminal_type(shell: Shell) -> None:
    shell.client.console = ["\x1b[31mred\x1b[0m\x1b[6n\x1b]0;title\x07\tä\r\n"] * 2
    assert shell("console", "web1", stdout=Terminal()).stdout == "\x1b[31mred\x1b[0m]0;title\tä\r\n"
    assert shell("console", "web1").stdout == "\x1b[31mred\x1b[0m\x1b[6n\x1b]0;title\x07\tä\r\n"


def test_following_outlives_a_restart_of_the_agent(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FOLLOW_INTERVAL", 0.0)
    answers = iter(["one\n", DeadlineExceeded("no answer"), "one\ntwo\n", KeyboardInterrupt()])

    def get_console_output(instance_uuid: str, length: int = 65536) -> str:
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(shell.client, "get_console_output", get_console_output)
    assert shell("console", "web1", "--follow").stdout == "one\ntwo\n"


def test_talking_needs_a_terminal(shell: Shell) -> None:
    run = shell("console", "web1", "--interactive")
    assert run.status == 1
    assert run.advice == f"computectl --host node1 console {WEB1} --follow"


def test_talking_works_on_the_instances_own_host(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.client.serial_console = {"type": "unix", "host": "node1", "path": "/not/here/console.sock"}
    run = shell("console", "web1", "--interactive", stdin=Terminal(), stdout=Terminal())
    assert run.status == 1
    assert "own host: node1" in run.stderr
    assert run.advice.startswith("ssh -t node1 computectl")


class Guest:
    """The other end of a serial line: a socket, as QEMU has it."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(10)

    def accept(self) -> socket.socket:
        line, _ = self._listener.accept()
        line.settimeout(10)
        return line

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path / "console.sock")
    yield guest
    guest.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The person's end, and the program's end of a pseudo-terminal."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


def read_until(descriptor: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += os.read(descriptor, 100)
    return seen


def talk(path: Path, program: int) -> tuple[threading.Thread, list[bool]]:
    """Converse in a thread; the list has the result at its end."""
    results: list[bool] = []

    def run() -> None:
        with connect_console(path) as line:
            results.append(converse(line, program, program))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_keys_go_to_the_guest_and_its_output_to_the_screen(
    guest: Guest, terminal: tuple[int, int], tmp_path: Path
) -> None:
    person, program = terminal
    thread, results = talk(tmp_path / "console.sock", program)
    with guest.accept() as line:
        line.sendall(b"login: ")
        assert read_until(person, b"login: ") == b"login: "
        os.write(person, b"root\x03\r")
        assert line.recv(100) == b"root\x03\r"
        os.write(person, b"\x1d")
        thread.join(10)
    assert results == [True]


def test_a_guest_that_stops_ends_the_talk(guest: Guest, terminal: tuple[int, int], tmp_path: Path) -> None:
    thread, results = talk(tmp_path / "console.sock", terminal[1])
    guest.accept().close()
    thread.join(10)
    assert results == [False]


def test_the_terminal_is_as_it_was_afterwards(guest: Guest, terminal: tuple[int, int], tmp_path: Path) -> None:
    def settings() -> str:
        return subprocess.run(["stty", "-a"], stdin=terminal[1], capture_output=True, text=True, timeout=10).stdout

    before = settings()
    thread, _ = talk(tmp_path / "console.sock", terminal[1])
    with guest.accept() as line:
        line.sendall(b"login: ")
        read_until(terminal[0], b"login: ")
        assert settings() != before
        os.write(terminal[0], b"\x1d")
        thread.join(10)
    assert settings() == before
