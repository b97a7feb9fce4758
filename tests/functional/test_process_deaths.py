"""The guest's process is killed before and after each step of what is done with it, and within: nothing is left.

In every other moment its agent dies with it. Moments as in `test_agent_deaths`; ``DEATHS_EVERY=1`` takes them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.block_device import Backend
from compute_agent.instance.machine import HypervisorName
from sandbox import agent_without_vhost_net
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.fate import Fate
from sandbox.node import Node
from sandbox.nursery import Nursery
from sandbox.switch import Switch
from tests.functional.death_record import Death
from tests.functional.death_run import IS_CHOSEN, TODAY, an_agent, in_each_moment
from tests.functional.deaths import Scene
from tests.functional.disk_deaths import CASES, LOCAL, a_blank_disk, a_blank_disk_in_ceph
from tests.functional.guests import Guests, leaving_nothing
from tests.functional.idle_scene import OF_OTHER, IdleScene, marked_disk
from tests.functional.layer_deaths import LAYERS
from tests.functional.life_deaths import LIFE
from tests.functional.machine_scene import MachineScene, firmware
from tests.functional.process_deaths import Bystander, lose_process

__all__ = ["an_agent"]

ANY = {
    **LIFE,
    **{name: CASES[name] for name in ("terminate", "snapshot", "backup", "incremental backup")},
    **OF_OTHER,
}
LAYERED = {name: LAYERS[name] for name in ("add layer", "delete layer")}
LETTING_GO = {name: CASES[name] for name in ("detach", "attach port", "detach port")}
"""A system has to take part in them."""
DEATHS = {
    "qcow2": {**ANY, **LAYERED},
    "rbd": ANY,
    "vmm": {**ANY, **LAYERED},
    "linux": LETTING_GO,
}
ALL = [(scene, name) for scene in DEATHS for name in DEATHS[scene]]
TODAYS = ALL if IS_CHOSEN else ALL[TODAY % 6 :: 6]
"""Others on another day."""


SCENES = {"qcow2": IdleScene, "rbd": IdleScene, "vmm": MachineScene, "linux": Scene}


def backend_of(scene: str) -> Backend:
    """Of all of its disks."""
    return "rbd" if scene == "rbd" else "qcow2"


@pytest.fixture(scope="module")
def fate(directory: Path) -> Fate:
    return Fate(directory / "processes-fate", agent_without_vhost_net.__file__)


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph, fate: Fate) -> Iterator[Node]:
    node = Node(directory / "pd", broker.transport_url, switch.connection, "processes", ceph)
    node.nursery = Nursery(fate.program)
    node.virt = f"bios = {firmware(directory / 'processes-bios.bin')}"
    with leaving_nothing(node, switch):
        yield node


@pytest.fixture(scope="module")
def scene(node: Node, switch: Switch, fate: Fate, request: pytest.FixtureRequest) -> Iterator[Scene]:
    kind = SCENES[request.param]
    root = LOCAL if kind is Scene else marked_disk(node.image_source / "marked.raw", backend_of(request.param))
    volume = a_blank_disk_in_ceph(node) if request.param == "rbd" else a_blank_disk(node)
    yield kind(node, switch, fate, root, volume)
    Guests(node).terminate_all()


@pytest.fixture(scope="module")
def bystander(scene: Scene) -> Bystander:
    return Bystander(scene)


@pytest.mark.parametrize(("scene", "name"), TODAYS, indirect=["scene"], scope="module")
def test_whenever_the_guest_dies_nothing_of_it_is_left(
    scene: Scene, bystander: Bystander, name: str, request: pytest.FixtureRequest
) -> None:
    kind: str = request.node.callspec.params["scene"]
    hypervisor: HypervisorName = "vmm" if kind == "vmm" else "qemu"

    def die(moment: int) -> Death:
        died_in, is_done = lose_process(scene, bystander, DEATHS[kind][name], moment, with_agent=moment % 2 == 0)
        who = "process and agent" if moment % 2 == 0 else "process"
        return Death(
            case=name,
            who="" if is_done is None else who,
            hypervisor=hypervisor,
            storage=backend_of(kind),
            moment=moment,
            died_in=died_in,
            again=0,
            moments=scene.moments,
            steps=scene.steps,
            is_undone=not is_done,
        )

    in_each_moment(die)
