"""The broker dies under a load of operations, and comes back: what was accepted is done once and told.

OUTAGES=10 OUTAGE=60 has it away ten times, for 60 s.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from compute_agent.errors import DeadlineExceeded, HostError
from compute_agent.instance.view import Accepted, Notification, OperationState
from compute_agent.rpc.notifications import listen
from compute_agent.rpc.transport import connect
from sandbox.broker import Broker
from sandbox.node import Node
from tests.functional.guests import Guests, an_order, until
from tests.functional.load import Load, idle_instances, require_one_order
from tests.lifecycle import RUNNING

OUTAGES = int(os.environ.get("OUTAGES", "1"))
OUTAGE = float(os.environ.get("OUTAGE", "2"))
"""Seconds."""
INSTANCES, CONTROLLERS = 10, 12
ANSWERED = 50
"""Requests between two outages."""
BACK_SECONDS = 120.0


@contextmanager
def listening(broker: Broker) -> Iterator[list[Notification]]:
    """What is told, as it comes."""
    heard: list[Notification] = []
    listener = listen(connect(broker.transport_url), heard.append)
    yield heard
    listener.stop()
    listener.wait()


def test_an_accepted_boot_is_done_and_told_although_the_broker_died(mortal: Broker, alone: Node) -> None:
    guests, order = Guests(alone), an_order()
    accepted = guests.client.build_and_run_instance(order)
    mortal.kill()
    until(alone.qemu_pids)
    mortal.start()

    def is_done() -> bool:
        try:
            return guests.client.get_operation(accepted.request_id).state is OperationState.DONE
        except (HostError, DeadlineExceeded):
            return False

    until(is_done, 60)
    with listening(mortal) as heard:
        until(lambda: accepted.request_id in ended(heard), 60)


def test_nothing_is_lost_nor_done_twice_whenever_the_broker_is_away(mortal: Broker, alone: Node) -> None:
    instances = idle_instances(alone, INSTANCES)
    with listening(mortal) as heard:
        with Load(alone, instances, str(time.time()), CONTROLLERS) as load:
            for _ in range(OUTAGES):
                answered = len(load.answers) + ANSWERED
                until(lambda enough=answered: len(load.answers) >= enough, BACK_SECONDS)  # type: ignore[misc]
                mortal.kill()
                time.sleep(OUTAGE)
                mortal.start()
        accepted = {one.order.request_id for one in load.answers if isinstance(one.said, Accepted)}
        until(lambda: accepted <= set(ended(heard)), BACK_SECONDS)
    require_one_order(alone.client, instances, load.answers)
    running = sum(view.vm_state in RUNNING for view in alone.client.list_instances())
    assert len(alone.qemu_pids()) == running
    again = len(ended(heard)) - len(set(ended(heard)))
    print(f"{OUTAGES} outages of {OUTAGE:g} s: {len(load.answers)} answers, {len(accepted)} done, {again} told twice")


def ended(heard: list[Notification]) -> list[str]:
    """The ids of the operations whose end was told."""
    return [str(one.payload["request_id"]) for one in [*heard] if one.event_type.endswith((".end", ".error"))]
