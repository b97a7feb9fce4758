"""An instance is taken from a host that is dead: whatever dies meanwhile, and whoever comes back, one host has it."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.evacuees import has_lost
from compute_agent.agent.request import Request
from compute_agent.errors import HostInMaintenance, InstanceExists, InvalidMessage, MigrationRefused
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import Evacuee
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from tests.unit.agent.moving import SharedDisk
from tests.unit.agent.test_crash import RUNNING, live
from tests.unit.agent.test_manager import a_manager, the_host_is_booted, until
from tests.unit.agent.world import INSTANCE, UUID, Agent, Killed, World

EVACUEE = Evacuee(
    instance=with_named_devices(INSTANCE),
    machine=Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator="kvm", cpu="host", slots={}),
    epoch=1,
    source="node1",
)


def an_order(**changes: object) -> Request:
    evacuee = msgspec.to_builtins(msgspec.structs.replace(EVACUEE, **changes))
    return Request(
        request_id=str(uuid.uuid4()), operation="evacuate", instance_uuid=UUID, arguments={"evacuee": evacuee}
    )


class Hosts:
    """The instance runs on the first, whose agent is gone; a disk that both can reach is its."""

    def __init__(self, directory: Path) -> None:
        self.shared = SharedDisk()
        self.dead, self.dest = (World(directory / name) for name in ("dead", "dest"))
        for world in (self.dead, self.dest):
            world.directory.mkdir(parents=True)
            world.moving.shared = self.shared
        agent = Agent(self.dead)
        live(agent, "boot")
        agent.journal.close()
        self.order = an_order()

    def agent(self) -> Agent:
        """That of the host that it comes to."""
        return Agent(self.dest, host="node2")

    def evacuate(self) -> None:
        agent = self.agent()
        assert admit(agent.node, self.order)
        agent.carry_out(self.order)
        agent.journal.close()

    def assert_taken(self) -> None:
        """It is stopped at its new host, with its disk, at its new epoch."""
        agent = self.agent()
        row = agent.journal.instance(UUID)
        assert (row.vm_state, row.record.epoch) == (VmState.STOPPED, 1)
        assert agent.journal.operation(self.order.request_id).state is OperationState.DONE
        assert self.dest.left_of(UUID) == ["disk"]
        assert (self.shared.owner, self.shared.is_removed) == (self.dest, False)
        agent.journal.close()


def test_whenever_the_agent_is_killed_the_next_one_has_it(tmp_path: Path) -> None:
    whole = Hosts(tmp_path / "whole")
    whole.evacuate()
    whole.assert_taken()
    for moment in range(1, len(whole.dest.touches) + 1):
        hosts = Hosts(tmp_path / str(moment))
        hosts.dest.kill_at = moment
        with pytest.raises(Killed):
            hosts.evacuate()
        hosts.dest.kill_at = None
        agent = hosts.agent()
        agent.recover()
        agent.journal.close()
        hosts.assert_taken()


@pytest.mark.parametrize("refused", ["create", "claim"])
def test_what_fails_leaves_nothing_and_may_be_ordered_again(tmp_path: Path, refused: str) -> None:
    hosts = Hosts(tmp_path)
    hosts.dest.fail_at = refused
    hosts.evacuate()
    assert hosts.dest.left_of(UUID) == [] and not hosts.shared.is_removed
    assert hosts.shared.owner is hosts.dead
    hosts.dest.fail_at, hosts.order = None, an_order()
    hosts.evacuate()
    hosts.assert_taken()


def test_it_is_started_where_it_is_and_nowhere_else(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.dead.power_failure()
    hosts.dead.taps.clear()
    hosts.evacuate()
    back = Agent(hosts.dead)
    back.journal.set_state(UUID, VmState.STOPPED, None)
    start = Request(request_id=str(uuid.uuid4()), operation="start", instance_uuid=UUID)
    assert admit(back.node, start)
    back.carry_out(start)
    fault = back.journal.operation(start.request_id).fault
    assert fault is not None and fault.type == "DiskInUse" and "evacuated" in fault.message
    assert hosts.dead.guests == {}
    live(hosts.agent(), "start")
    assert hosts.dest.guests == {UUID: PowerState.RUNNING}


def test_a_host_that_lives_after_all_lets_go_of_it_and_harms_nothing(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.evacuate()
    assert hosts.dead.left_of(UUID) == RUNNING
    with a_manager(hosts.dead) as (manager, told):
        until(told, "evacuated.end")
        assert hosts.dead.left_of(UUID) == [] and manager.list_instances() == []
    hosts.assert_taken()


def test_a_host_that_is_booted_again_does_not_start_what_it_has_lost(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.evacuate()
    the_host_is_booted(hosts.dead)
    hosts.dead.touches.clear()
    with a_manager(hosts.dead) as (manager, told):
        assert "evacuated" in until(told, "host_boot.error").payload["fault"]["message"]
        manager._reconciler.look_for_evacuated()  # the first look may have come while this was under way
        until(told, "evacuated.end")
        assert hosts.dead.left_of(UUID) == [] and manager.list_instances() == []
    assert "before start" not in hosts.dead.touches
    hosts.assert_taken()


def test_one_that_has_not_been_evacuated_is_not_let_go_of(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    agent = Agent(hosts.dead)
    record = agent.journal.instance(UUID).record
    assert not has_lost(agent.node, record)
    hosts.shared.evacuated_at = 1
    assert not has_lost(agent.node, msgspec.structs.replace(record, epoch=1))
    assert has_lost(agent.node, record)


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"source": "node2"}, InvalidMessage, "is this host"),
        ({"epoch": 1}, MigrationRefused, "not above 2"),
        (
            {"instance": msgspec.structs.replace(EVACUEE.instance, uuid=UUID[:-1] + "7")},
            InvalidMessage,
            "instance_uuid",
        ),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, changes: dict[str, object], error: type[Exception], reason: str) -> None:
    hosts = Hosts(tmp_path)
    hosts.shared.evacuated_at = 2
    agent = hosts.agent()
    with pytest.raises(error, match=reason):
        admit(agent.node, an_order(**changes))
    assert (agent.journal.instances(), hosts.dest.touches) == ([], [])


def test_disks_that_only_the_dead_host_has(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    hosts.dest.moving.shared = None
    with pytest.raises(MigrationRefused, match="disk0: it exists on node1 only"):
        admit(hosts.agent().node, hosts.order)


def test_a_host_that_has_it_or_takes_none(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path)
    with pytest.raises(InstanceExists):
        admit(Agent(hosts.dead, host="node9").node, hosts.order)
    agent = hosts.agent()
    agent.journal.set_maintenance(on=True)
    with pytest.raises(HostInMaintenance):
        admit(agent.node, hosts.order)
