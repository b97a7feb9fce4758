"""The service: what it refuses to start with, and a broker that is not up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, HostError
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import until

AGENT = Path(sys.executable).with_name("compute-agent")


def started_with(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """An agent that is expected to end at once."""
    path = directory / "bad.conf"
    path.write_text(text.format(directory=directory))
    return subprocess.run([AGENT, "--config-file", path], capture_output=True, text=True, timeout=30)


STATE = "[agent]\nstate_dir = {directory}/s\n"

BAD_CONFIGURATIONS = [
    ("[agent]\nstate_dri = /tmp/x\n", "agent.state_dri"),
    ("[agnet]\nstate_dir = /tmp/x\n", "[agnet]"),
    ("[agent]\nworkers = many\n", "agent.workers"),
    ("[agent]\nworkers = -1\n", "agent.workers"),
    ("[agent]\nstate_dir = relative/path\n", "agent.state_dir"),
    ("[agent]\nstate_dir = /proc/nowhere\n", "agent.state_dir"),
    (
        "[agent]\nstate_dir = {directory}/s\nrun_dir = {directory}/r\n[virt]\nqemu_binary = no-such-qemu\n",
        "qemu_binary",
    ),
    ("[agent]\nstate_dir = {directory}/s\nrun_dir = {directory}/" + "r" * 120 + "\n", "run_dir"),
]


@pytest.mark.parametrize(("text", "option"), BAD_CONFIGURATIONS, ids=lambda one: str(one)[:30])
def test_a_bad_configuration_is_one_line_that_names_the_option(directory: Path, text: str, option: str) -> None:
    ended = started_with(directory, text)
    assert ended.returncode == 1
    lines = [line for line in ended.stderr.splitlines() if line.startswith("compute-agent:")]
    assert len(lines) == 1
    assert option in lines[0]
    assert "Traceback" not in ended.stderr


def test_a_configuration_file_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.conf"
    ended = subprocess.run([AGENT, "--config-file", missing], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert str(missing) in ended.stderr


@pytest.fixture
def late_broker(directory: Path) -> Iterator[Broker]:
    broker = Broker(directory / "late")
    yield broker
    broker.stop()


def test_a_broker_that_comes_later(directory: Path, late_broker: Broker, switch: Switch) -> None:
    """The agent is up without it, and serves as soon as it is there."""
    with Node(directory / "early", late_broker.transport_url, switch.connection, host="early") as node:
        with pytest.raises(HostError, match=str(late_broker.port)):
            node.client.get_host()
        late_broker.start()

        def serves() -> bool:
            try:
                return bool(node.client.get_host())
            except (HostError, DeadlineExceeded):
                return False

        until(serves, 30)


def test_a_second_agent_on_the_same_state_is_refused(node: Node) -> None:
    second = subprocess.run([AGENT, "--config-file", node.config_file], capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert "another compute-agent" in second.stderr
    assert node.client.get_host()


def test_it_stops_at_once_and_starts_again(node: Node) -> None:
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < 10
    node.start()
    assert node.client.get_host()["instances"] == 0
