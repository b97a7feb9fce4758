"""Two hundred operations at once on twenty instances: each gets one answer, and all of them fit one order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random

import pytest

from compute_agent.instance.view import Accepted
from sandbox import audit
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import BOOT_SECONDS, Guests
from tests.functional.load import Order, an_order_for, idle_instances, require_one_order, send
from tests.lifecycle import RUNNING

SEEDS = os.environ.get("MANY_OPERATIONS_SEEDS", "1").split()
INSTANCES, OPERATIONS, AT_ONCE = 20, 200, 40
_TWICE = 0.1
"""Of the requests are sent twice."""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_fits_one_order(guests: Guests, node: Node, switch: Switch, seed: str) -> None:
    random, instances = Random(seed), idle_instances(node, INSTANCES)
    boots = [Order("boot", one, str(uuid.uuid4())) for one in instances]
    others = [an_order_for(random, random.choice(instances)) for _ in range(OPERATIONS)]
    ask = partial(send, node.client)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # what is booting when the others come
        answers = [*pool.map(ask, boots), *pool.map(ask, _some_twice(random, others))]
    accepted = {one.order.request_id for one in answers if isinstance(one.said, Accepted)}
    for request_id in accepted:
        node.client.wait(request_id, BOOT_SECONDS)
    print(f"seed {seed}: {len(answers)} requests, {len(accepted)} operations")
    require_one_order(node.client, instances, answers)
    assert len(node.qemu_pids()) == sum(view.vm_state in RUNNING for view in guests.client.list_instances())
    guests.terminate_all()
    assert audit.leftovers(node, switch) == []


def _some_twice(random: Random, orders: Sequence[Order]) -> Iterator[Order]:
    for one in orders:
        yield from [one] * (1 + (random.random() < _TWICE))
