"""Who is connected to the broker again later than the agent is answered again soon after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.broker import Broker
from sandbox.node import Node
from tests.functional.guests import Guests, until
from tests.functional.load import idle_instances

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


@contextmanager
def asking(node: Node, broker: Broker, request_id: str, answers: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who waits for the end of an operation."""
    command = [sys.executable, "-c", CALLER, broker.transport_url, node.host, request_id]
    with answers.open("wb") as output, subprocess.Popen(command, stdout=output) as caller:
        try:
            yield caller
        finally:
            caller.kill()


def test_a_caller_that_is_back_later_than_the_agent_is_answered(alone: Node, mortal: Broker, tmp_path: Path) -> None:
    (order,) = idle_instances(alone, 1)
    Guests(alone).finish(alone.client.build_and_run_instance(order))
    request_id = alone.client.stop_instance(order.uuid, timeout=600).request_id  # it does not listen
    answers = tmp_path / "answers"
    with asking(alone, mortal, request_id, answers) as caller:
        until(lambda: "answered" in answers.read_text())
        os.kill(caller.pid, signal.SIGSTOP)
        mortal.kill()
        mortal.start()
        until(lambda: "Abandoning" in alone.log.read_text(), SECONDS)
        before = answers.read_text()
        os.kill(caller.pid, signal.SIGCONT)
        until(lambda: answers.read_text() != before, SECONDS)
