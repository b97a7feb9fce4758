"""The broker dies; what was accepted is done and told all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from compute_agent.errors import DeadlineExceeded, HostError
from compute_agent.instance.view import OperationState
from compute_agent.rpc.notifications import listen
from compute_agent.rpc.transport import connect
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, until


@pytest.fixture
def mortal(directory: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    with Broker(directory / "mortal") as broker:
        yield broker


def test_an_accepted_boot_is_done_and_told_although_the_broker_died(
    directory: Path, mortal: Broker, switch: Switch
) -> None:
    with Node(directory / "alone", mortal.transport_url, switch.connection, host="alone") as node:
        guests, order = Guests(node), an_order()
        accepted = guests.client.build_and_run_instance(order)
        mortal.kill()
        until(node.qemu_pids)
        mortal.start()

        def is_done() -> bool:
            try:
                return guests.client.get_operation(accepted.request_id).state is OperationState.DONE
            except (HostError, DeadlineExceeded):
                return False

        until(is_done, 60)
        heard: SimpleQueue[str] = SimpleQueue()
        listener = listen(connect(mortal.transport_url), lambda one: heard.put(one.event_type))
        while heard.get(timeout=60) != "compute.instance.boot.end":
            pass
        listener.stop()
        listener.wait()
        guests.terminate_all()
