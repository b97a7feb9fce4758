"""The agent dies in moments of one case, one after the other; by default some of them, others on another day."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from compute_agent.instance.machine import HypervisorName
from sandbox.fate import Fate
from sandbox.node import Node
from tests.functional.death_record import Death, record
from tests.functional.deaths import END, Case, Scene, survive
from tests.functional.disk_deaths import CASES

IS_CHOSEN = "DEATHS_EVERY" in os.environ
"""How many moments are taken; ``DEATHS_EVERY=1`` takes them all."""
STRIDE = int(os.environ.get("DEATHS_EVERY", "60"))
TODAY = int(time.time() // 86400) % STRIDE
EARLY = TODAY % 5 + 1
"""For operations with few moments; with a stride of one, the first."""


@pytest.fixture(autouse=True)
def an_agent(node: Node, fate: Fate) -> Iterator[None]:
    """There is one after a test that has failed, too."""
    yield
    fate.spare()
    if node.pid is None:
        node.start()


def in_each_moment(die: Callable[[int], Death], first: int = EARLY) -> None:
    """One after the other, until the operation's last; what each has brought is noted."""
    for moment in count(first, STRIDE):
        began = time.monotonic()
        death = die(moment)
        print(f"{time.monotonic() - began:.1f} s: {death}")
        record(death)
        if death.died_in.endswith(END):
            return


def survive_all(scene: Scene, storage: str, name: str, case: Case, hypervisor: HypervisorName = "qemu") -> None:
    """`storage`: what the disks are, in a word."""

    def die(moment: int) -> Death:
        died_in = survive(scene, case, moment)
        return Death(
            case=name,
            hypervisor=hypervisor,
            storage=storage,
            moment=moment,
            died_in=died_in,
            again=scene.deaths - 1,
            moments=scene.moments,
            steps=scene.steps,
        )

    in_each_moment(die, TODAY + 1 if name in CASES else EARLY)
