"""compute-agent's process: what it says and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[[str], "subprocess.Popen[str]"]

COMMAND = [sys.executable, "-c", "import sys; from compute_agent.cli.agent import main; sys.exit(main())"]
SECONDS = 30


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: the names of sockets have to fit."""
    with tempfile.TemporaryDirectory(prefix="ca-") as path:
        yield Path(path)


@pytest.fixture
def readiness(directory: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(directory / "notify"))
        listener.settimeout(SECONDS)
        yield listener


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Starts agents without a broker and without a switch."""
    started: list[subprocess.Popen[str]] = []

    def start(extra: str = "") -> subprocess.Popen[str]:
        path = directory / "compute-agent.conf"
        path.write_text(
            f"[DEFAULT]\nhost=node1\ntransport_url=rabbit://agent:secret@127.0.0.1:1/\n"
            f"[agent]\nstate_dir={directory}/state\nrun_dir={directory}/run\n"
            f"[network]\novsdb_connection=unix:{directory}/no-switch\n"
            f"[storage]\nqemu_img={sys.executable}\n[virt]\nqemu_binary={sys.executable}\n{extra}"
        )
        environment = os.environ | {"NOTIFY_SOCKET": str(directory / "notify")}
        command = [*COMMAND, "--config-file", str(path)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_is_ready_without_a_broker_and_ends_when_told_to(start: Start, readiness: socket.socket) -> None:
    agent = start("")
    assert readiness.recv(100) == b"READY=1"
    agent.send_signal(signal.SIGTERM)
    _, errors = agent.communicate(timeout=SECONDS)
    assert readiness.recv(100) == b"STOPPING=1"
    assert agent.returncode == 0
    assert "compute_agent.cli.service [- -] Stopping" in errors
    assert "secret" not in errors
    assert "ventlet" not in errors


def test_one_agent_only(start: Start, readiness: socket.socket, directory: Path) -> None:
    start("")
    assert readiness.recv(100) == b"READY=1"
    second = start("")
    _, errors = second.communicate(timeout=SECONDS)
    assert (second.returncode, errors) == (
        1,
        f"compute-agent: agent.state_dir: another compute-agent uses {directory}/state\n",
    )


def test_a_bad_configuration_is_one_line(start: Start) -> None:
    agent = start("accelerater=kvm\n")
    _, errors = agent.communicate(timeout=SECONDS)
    expected = "compute-agent: virt.accelerater: there is no such option (got 'kvm')\n"
    assert (agent.returncode, errors) == (1, expected)
