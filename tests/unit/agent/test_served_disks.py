"""An instance whose hypervisor opens no disk: its disks are changed where they are served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import StorageError
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.view import Fault
from tests.unit.agent.copying import FakeCopies
from tests.unit.agent.test_crash import live
from tests.unit.agent.world import UUID, Agent, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, hypervisor="vmm")


@pytest.fixture
def agent(world: World) -> Iterator[Agent]:
    agent = Agent(world)
    live(agent, "boot")
    yield agent
    agent.journal.close()


@pytest.mark.parametrize("operation", ["snapshot", "backup", "volume_snapshot_create", "volume_snapshot_delete"])
def test_whoever_serves_the_disks_of_a_running_guest_copies_and_layers_them(agent: Agent, operation: str) -> None:
    if operation == "volume_snapshot_delete":
        live(agent, "volume_snapshot_create")
    live(agent, operation)
    assert agent.events()[-1] == f"compute.instance.{operation}.end"


def test_a_block_server_that_dies_fails_its_copy_and_keeps_its_guest(
    world: World, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(*_: object) -> int:
        world.serving = False
        world.jobs.clear()
        world.marks.clear()
        raise StorageError("block server: it has ended")

    monkeypatch.setattr(FakeCopies, "progress", progress)
    live(agent, "backup")
    (last,) = agent.journal.operations(UUID, 1)
    assert last.fault == Fault(type="StorageError", message="block server: it has ended")
    assert world.left_of(UUID) == ["disk", "port", "guest"]


def test_a_disk_grows_where_it_is_served_and_then_for_its_guest(world: World, agent: Agent) -> None:
    world.touches.clear()
    live(agent, "extend_volume")
    assert world.touches == ["before grow", "after grow", "before resize", "after resize"]
    assert world.sizes == {"disk0": 2 * 1024**3}
    assert world.served == {"disk0"}


def test_a_disk_is_limited_where_it_is_served(world: World, agent: Agent) -> None:
    live(agent, "attach_volume")
    live(agent, "set_disk_qos")
    assert world.served == {"disk1"}
    assert world.plugged == {"disk1": DiskQos(total_iops_sec=100)}
    world.served.clear()
    live(agent, "stop")
    live(agent, "set_disk_qos")
    assert world.served == set(), "nobody has it open"
