"""Who is connected to the broker again later than the agent is answered again soon after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor
from sandbox import audit
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, halting_image, until

CALLER = """
import sys
from compute_agent.cli.threads import forbid_eventlet
forbid_eventlet()
from compute_agent.errors import ComputeAgentError
from compute_agent.rpc.client import ComputeClient
from compute_agent.rpc.transport import connect
client = ComputeClient(connect(sys.argv[1]), sys.argv[2])
while True:
    try:
        client.get_operation(sys.argv[3], wait=5)
    except ComputeAgentError:
        continue
    print("answered", flush=True)
"""
SECONDS = 30.0
"""For a caller to be answered in; what it asked before may have to be given up first."""


@pytest.fixture
def mortal(directory: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    with Broker(directory / "early") as broker:
        yield broker


@pytest.fixture
def node(directory: Path, mortal: Broker, switch: Switch) -> Iterator[Node]:
    with Node(directory / "soon", mortal.transport_url, switch.connection, host="soon") as node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


@contextmanager
def asking(node: Node, broker: Broker, request_id: str, answers: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who waits for the end of an operation."""
    command = [sys.executable, "-c", CALLER, broker.transport_url, node.host, request_id]
    with answers.open("wb") as output, subprocess.Popen(command, stdout=output) as caller:
        try:
            yield caller
        finally:
            caller.kill()


def test_a_caller_that_is_back_later_than_the_agent_is_answered(node: Node, mortal: Broker, tmp_path: Path) -> None:
    guests = Guests(node)
    disk = BlockDevice(source_type="image", image=halting_image(node.image_source / "halting.raw"), size_gb=1)
    order = an_order(ports=0, direct_boot=None, flavor=Flavor(vcpus=1, memory_mb=64), block_devices=[disk])
    guests.finish(node.client.build_and_run_instance(order))
    request_id = node.client.stop_instance(order.uuid, timeout=600).request_id  # it does not listen
    answers = tmp_path / "answers"
    with asking(node, mortal, request_id, answers) as caller:
        until(lambda: "answered" in answers.read_text())
        os.kill(caller.pid, signal.SIGSTOP)
        mortal.kill()
        mortal.start()
        until(lambda: "Abandoning" in node.log.read_text(), SECONDS)
        before = answers.read_text()
        os.kill(caller.pid, signal.SIGCONT)
        until(lambda: answers.read_text() != before, SECONDS)
