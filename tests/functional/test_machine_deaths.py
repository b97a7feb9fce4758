"""The same as `test_agent_deaths`, of guests that are machines of our own: on this machine's KVM, with a firmware only.

What an agent does for them it does here: processes, monitors, block servers and disks are real.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import agent_without_vhost_net
from sandbox.broker import Broker
from sandbox.fate import Fate
from sandbox.node import Node
from sandbox.nursery import Nursery
from sandbox.switch import Switch
from tests.functional.death_run import IS_CHOSEN, TODAY, an_agent, survive_all
from tests.functional.disk_deaths import CASES, a_blank_disk
from tests.functional.guests import leaving_nothing
from tests.functional.idle_scene import OF_OTHER, marked_disk
from tests.functional.incident_deaths import INCIDENTS
from tests.functional.layer_deaths import LAYERS
from tests.functional.life_deaths import LIFE
from tests.functional.machine_scene import MachineScene, firmware

__all__ = ["an_agent"]

COPYING = ("terminate", "snapshot", "backup", "incremental backup")
DEATHS = {**LIFE, **LAYERS, **INCIDENTS, **{name: CASES[name] for name in COPYING}, **OF_OTHER}

TODAYS = list(DEATHS) if IS_CHOSEN else list(DEATHS)[TODAY % 3 :: 3]
"""Others on another day; what is theirs and not the hypervisor's, `test_agent_deaths` has each day."""


@pytest.fixture(scope="module")
def fate(directory: Path) -> Fate:
    return Fate(directory / "machines-fate", agent_without_vhost_net.__file__)


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, fate: Fate) -> Iterator[Node]:
    node = Node(directory / "machines", broker.transport_url, switch.connection, "machines")
    node.nursery = Nursery(fate.program)
    node.virt = f"hypervisor = vmm\nbios = {firmware(directory / 'bios.bin')}"
    with leaving_nothing(node, switch):
        yield node


@pytest.fixture(scope="module")
def scene(node: Node, switch: Switch, fate: Fate) -> MachineScene:
    return MachineScene(node, switch, fate, marked_disk(node.image_source / "marked.raw"), a_blank_disk(node))


@pytest.mark.parametrize("case", TODAYS)
def test_whenever_the_agent_dies_the_next_one_finishes(scene: MachineScene, case: str) -> None:
    survive_all(scene, "qcow2", case, DEATHS[case], "vmm")
