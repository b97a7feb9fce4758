"""The same as `test_agent_deaths`, of moves between two hosts, both of this machine: either of their agents dies.

Guests are a boot sector that halts its processor, under QEMU, or a firmware, in a machine of our own; none has a port,
which both agents would give one tap. What they write while they move, `tests/host` looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from compute_agent.instance.block_device import Backend
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import Instance
from sandbox import audit, dying_agent_of_moves
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.fate import Fate
from sandbox.node import Node
from sandbox.nursery import Nursery
from sandbox.switch import Switch
from tests.functional.crossing import Crossing, Side
from tests.functional.death_record import Death
from tests.functional.death_run import IS_CHOSEN, TODAY, in_each_moment
from tests.functional.guests import Guests, with_hypervisor
from tests.functional.idle_scene import marked_disk
from tests.functional.load import idle_instances
from tests.functional.machine_scene import firmware
from tests.functional.move_deaths import BETWEEN_DISKS, IN_CLUSTER, Move, survive_move

_FIRMWARE, _IMAGES = "moving-bios.bin", "moving-images"
_OPTIONS = """
[agent]
shutdown_timeout = 1

[migration]
encrypt = false
"""
"""Of all agents: guests do not listen to a power button."""


@dataclass(frozen=True)
class Kind:
    """Of instances."""

    hypervisor: HypervisorName
    storage: Backend
    moves: Mapping[str, Move]


KINDS = {
    "qemu": Kind("qemu", "qcow2", BETWEEN_DISKS),
    "vmm": Kind("vmm", "qcow2", BETWEEN_DISKS),
    "ceph": Kind("qemu", "rbd", IN_CLUSTER),
}
ALL = [(kind, name) for kind in KINDS for name in KINDS[kind].moves]
TODAYS = ALL if IS_CHOSEN else ALL[TODAY % 4 :: 4]
"""Others on another day."""


@pytest.fixture(scope="module")
def sides(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[list[Side]]:
    """What one of them has left fails the module."""
    firmware(directory / _FIRMWARE)
    sides = [
        _side(directory, Node(directory / name, broker.transport_url, switch.connection, name, ceph))
        for name in ("ma", "mb")
    ]
    with sides[0].node, sides[1].node:
        yield sides
        for side in sides:
            Guests(side.node).terminate_all()
        for side in sides:
            assert audit.leftovers(side.node, switch) == []


def _side(directory: Path, node: Node) -> Side:
    fate = Fate(directory / f"{node.host}-fate", dying_agent_of_moves.__file__)
    node.nursery = Nursery(fate.program)
    node.virt = f"bios = {directory / _FIRMWARE}\n{_OPTIONS}"
    node.image_source = directory / _IMAGES
    return Side(node, fate)


@pytest.fixture(scope="module")
def crossing(sides: list[Side], request: pytest.FixtureRequest) -> Iterator[Crossing]:
    kind: Kind = KINDS[request.param]
    yield Crossing(sides, lambda: an_instance(kind, sides[0].node))
    for side in sides:
        Guests(side.node).terminate_all()


def an_instance(kind: Kind, node: Node) -> Instance:
    """One more of them."""
    (order,) = idle_instances(node, 1)
    (disk,) = order.block_devices if kind.hypervisor == "qemu" else [marked_disk(node.image_source / "marked.raw")]
    disks = [msgspec.structs.replace(disk, backend=kind.storage)]
    return with_hypervisor(msgspec.structs.replace(order, ports=[], block_devices=disks), kind.hypervisor)


@pytest.fixture(autouse=True)
def agents(sides: list[Side]) -> Iterator[None]:
    """There are two after a test that has failed, too."""
    yield
    for side in sides:
        side.live_on()


@pytest.mark.parametrize(("crossing", "name"), TODAYS, indirect=["crossing"])
def test_whenever_an_agent_dies_one_host_has_it(crossing: Crossing, name: str, request: pytest.FixtureRequest) -> None:
    kind: Kind = KINDS[request.node.callspec.params["crossing"]]

    def die(moment: int) -> Death:
        died_in, has_moved = survive_move(crossing, kind.moves[name], moment)
        return Death(
            case=name,
            hypervisor=kind.hypervisor,
            storage=kind.storage,
            moment=moment,
            died_in=died_in,
            again=crossing.deaths - 1,
            moments=crossing.moments,
            steps=crossing.steps,
            is_undone=not has_moved,
        )

    in_each_moment(die)
