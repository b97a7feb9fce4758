"""The agent is killed before and after each step of all that it does, and within: all is finished.

Each operation's moments are found while it is carried out (`sandbox.dying_agent`). By default every run takes some of
them, others on another day; ``DEATHS_EVERY=1`` takes them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sandbox import disk_audit
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.fate import Fate
from sandbox.node import Node
from sandbox.nursery import Nursery
from sandbox.switch import Switch
from tests.functional.death_run import IS_CHOSEN, an_agent, survive_all
from tests.functional.deaths import Scene
from tests.functional.disk_deaths import CASES, KINDS
from tests.functional.guests import Guests, leaving_nothing
from tests.functional.incident_deaths import INCIDENTS
from tests.functional.layer_deaths import LAYERS
from tests.functional.life_deaths import LIFE

__all__ = ["an_agent"]

PLUGGING = ("attach", "detach", "grow", "limit", "terminate")
PORTS = ("attach port", "detach port")
COPYING = ("snapshot", "backup", "incremental backup", "restore", "delete backup", "delete snapshot")
BY_ITSELF = {"qcow2": "the guest ends", "rbd": "the block server ends"}
COPIED = ("qcow2", "rbd")
"""Kinds of root disks; in the order of `KINDS`, so that each has one scene."""
LIVING = COPIED if IS_CHOSEN else COPIED[:1]


FOUND = {
    "qcow2": ["node disk1", "object limits-disk1", "descriptor disk1", "file /"],
    "rbd": ["node disk1", "object limits-disk1", "export disk1", "file /", "image "],
    "file": ["node disk1", "object limits-disk1", "descriptor disk1", "file /"],
    "rbd volume": ["node disk1", "object limits-disk1", "export disk1", "file /", "the lock on image volume-"],
}
"""What begins so, of a disk that is there for nobody."""


@pytest.fixture(scope="module")
def fate(directory: Path) -> Fate:
    return Fate(directory / "fate")


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph, fate: Fate) -> Iterator[Node]:
    node = Node(directory / "dn", broker.transport_url, switch.connection, "dying", ceph)
    node.nursery = Nursery(fate.program)
    with leaving_nothing(node, switch):
        yield node


@pytest.fixture(scope="module")
def scene(node: Node, switch: Switch, fate: Fate, request: pytest.FixtureRequest) -> Iterator[Scene]:
    root, a_volume = KINDS[request.param]
    yield Scene(node, switch, fate, root, a_volume(node))
    Guests(node).terminate_all()


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> str:
    """What the scene's disks are, in a word."""
    return str(request.node.callspec.params["scene"])


@pytest.mark.parametrize("scene", KINDS, indirect=True, scope="module")
@pytest.mark.parametrize("case", PLUGGING)
def test_whenever_the_agent_dies_the_next_one_finishes(scene: Scene, storage: str, case: str) -> None:
    survive_all(scene, storage, case, CASES[case])


@pytest.mark.parametrize("scene", LIVING, indirect=True, scope="module")
@pytest.mark.parametrize("case", LIFE)
def test_whenever_the_agent_dies_an_instance_lives_on(scene: Scene, storage: str, case: str) -> None:
    survive_all(scene, storage, case, LIFE[case])


@pytest.mark.parametrize("scene", COPIED[:1], indirect=True, scope="module")
@pytest.mark.parametrize("case", PORTS)
def test_whenever_the_agent_dies_the_next_one_finishes_with_ports(scene: Scene, storage: str, case: str) -> None:
    survive_all(scene, storage, case, CASES[case])


@pytest.mark.parametrize("scene", COPIED[:1], indirect=True, scope="module")
@pytest.mark.parametrize("case", LAYERS)
def test_whenever_the_agent_dies_a_disk_keeps_its_layers(scene: Scene, storage: str, case: str) -> None:
    survive_all(scene, storage, case, LAYERS[case])


@pytest.mark.parametrize("scene", COPIED, indirect=True, scope="module")
def test_whenever_the_agent_dies_what_happened_by_itself_is_looked_into(scene: Scene, storage: str) -> None:
    case = BY_ITSELF[storage]
    survive_all(scene, storage, case, INCIDENTS[case])


@pytest.mark.parametrize("scene", COPIED, indirect=True, scope="module")
@pytest.mark.parametrize("case", COPYING)
def test_whenever_the_agent_dies_the_next_one_copies(scene: Scene, storage: str, case: str) -> None:
    survive_all(scene, storage, case, CASES[case])


@pytest.mark.parametrize("scene", KINDS, indirect=True, scope="module")
def test_who_looks_for_what_is_left_finds_it(scene: Scene, request: pytest.FixtureRequest) -> None:
    """A disk that its guest has, to somebody who believes that it has none."""
    scene.end_other()
    scene.have_volume(True)
    (root, _) = scene.guests.view(scene.guest.uuid).instance.block_devices
    believed = msgspec.structs.replace(scene.guest, block_devices=[root])
    scene.node.kill()
    lines = disk_audit.surplus(scene.node, [believed])
    scene.node.start()
    found = FOUND[request.node.callspec.params["scene"]]
    assert [what for what in found if any(line.startswith(what) for line in lines)] == found
    assert [line for line in lines if not line.startswith(tuple(found))] == []
