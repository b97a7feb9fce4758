"""The agent is killed at any moment, again and again, under a load of operations: nothing is lost, nothing done twice.

RANDOM_KILLS=1000 kills it so often; after every 25 all that was asked for is looked at.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random

import pytest

from sandbox import audit
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests
from tests.functional.load import Load, idle_instances, require_one_order
from tests.lifecycle import RUNNING

KILLS = int(os.environ.get("RANDOM_KILLS", "10"))
SEED = os.environ.get("RANDOM_KILLS_SEED", str(int(time.time())))
KILLS_A_ROUND = 25
INSTANCES, CONTROLLERS = 10, 12
LONGEST_LIFE = 1.5
"""Seconds that an agent has."""


@pytest.mark.parametrize("begun", range(0, KILLS, KILLS_A_ROUND))
def test_whenever_the_agent_is_killed_all_is_done_once(guests: Guests, node: Node, switch: Switch, begun: int) -> None:
    seed, kills = f"{SEED}-{begun}", min(KILLS_A_ROUND, KILLS - begun)
    random, instances = Random(seed), idle_instances(node, INSTANCES)
    with Load(node, instances, seed, CONTROLLERS) as load:
        for _ in range(kills):
            time.sleep(random.uniform(0, LONGEST_LIFE))  # any moment
            node.kill()
            doubled = [uuid for uuid, count in Counter(node.running()).items() if count > 1]
            node.start()
            assert doubled == [], seed
    require_one_order(node.client, instances, load.answers)
    assert len(node.qemu_pids()) == sum(view.vm_state in RUNNING for view in guests.client.list_instances())
    print(f"seed {seed}: {kills} kills, {len(load.answers)} requests")
    guests.terminate_all()
    assert audit.leftovers(node, switch) == []
