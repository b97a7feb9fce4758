"""The manager with its threads, over the world of fakes: from a request to its notification."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Barrier, Event, Thread
from typing import cast

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.journal import OperationRow
from compute_agent.agent.manager import Manager
from compute_agent.agent.operations.disk_changes import EXTEND_VOLUME
from compute_agent.agent.peers import Outside, Peer, Peers
from compute_agent.agent.settings import AgentSettings
from compute_agent.errors import (
    ComputeAgentError,
    DeadlineExceeded,
    GuestGone,
    HostError,
    InstanceNotFound,
    InvalidState,
    OperationNotFound,
)
from compute_agent.instance.migration import Incoming
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import Fault, InstanceView, Notification, OperationState, OperationView, StepState
from compute_agent.virt.contract import DiskFailure, GuestExit
from tests.unit.agent.test_crash import request_for
from tests.unit.agent.world import (
    INSTANCE,
    UUID,
    Agent,
    FakeGuest,
    FakeHypervisor,
    FakeNetwork,
    FakeStorage,
    World,
    no_peers,
)

Told = SimpleQueue[Notification]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextmanager
def a_manager(world: World, peers: Peers = no_peers) -> Iterator[tuple[Manager, Told]]:
    told = Told()
    manager = Manager(
        AgentSettings(host="node1", state_dir=world.directory, shutdown_timeout=0.1),
        lambda on_exit, on_disk_failure: FakeHypervisor(world, on_exit, on_disk_failure),
        FakeNetwork(world),
        lambda on_cut_off: FakeStorage(world),
        Outside(publish=told.put, peers=peers),
    )
    yield manager, told
    manager.close()


def until(told: Told, event: str) -> Notification:
    """Wait for a notification; those before it are passed over."""
    while True:
        notification = told.get(timeout=10)
        if notification.event_type == f"compute.instance.{event}":
            return notification


def test_a_boot_from_request_to_notification(world: World) -> None:
    with a_manager(world) as (manager, told):
        request = request_for("boot", {})
        accepted = manager.submit(request)
        assert accepted == manager.submit(request)
        end = until(told, "boot.end")
        assert end.payload["request_id"] == request.request_id
        assert end.payload["vm_state"] == "active"
        view = manager.get_instance(UUID)
        assert (view.vm_state, view.power_state, view.task) == (VmState.ACTIVE, PowerState.RUNNING, None)
        operation = manager.get_operation(request.request_id, 0.0)
        assert (operation.state, operation.progress) == ("done", 100)
        assert [step.name for step in operation.steps] == [
            "design_machine",
            "create_disks",
            "plug_ports",
            "start_guest",
        ]
        assert manager.get_host()["instances"] == 1


def test_a_guest_that_was_not_looked_for_yet_is_shown_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        before = manager.get_instance(UUID)
    monkeypatch.setattr("compute_agent.agent.manager.recover", lambda *_: None)
    with a_manager(world) as (manager, _):
        assert manager.get_instance(UUID) == manager.list_instances()[0] == before
        assert (before.power_state, before.pid) == (PowerState.RUNNING, 1)


def test_guests_that_do_not_answer_are_not_waited_for_one_after_the_other(world: World) -> None:
    together = Barrier(3)

    class Silent(FakeGuest):
        def status(self, seconds: float | None = None) -> PowerState:
            together.wait(10)
            return PowerState.UNRESPONSIVE

    with a_manager(world) as (manager, _):
        for number in range(together.parties):
            instance = msgspec.structs.replace(INSTANCE, uuid=f"{UUID[:-1]}{number}")
            manager._node.journal.add_instance(InstanceRecord(instance=instance), VmState.ACTIVE)
            manager._node.guests[instance.uuid] = Silent(world, instance.uuid)
        shown = manager.list_instances()
        assert [one.instance.uuid[-1] for one in shown] == ["0", "1", "2"]
        assert {one.power_state for one in shown} == {PowerState.UNRESPONSIVE}


def test_a_migration_that_is_not_under_way_cannot_be_hurried_or_given_up(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        for wish in (manager.live_migration_abort, manager.live_migration_force_complete):
            with pytest.raises(InvalidState, match="on its way to another host"):
                wish(UUID)


def test_a_guest_that_died_is_put_away_and_reported(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        world.guests.clear()
        world.on_exit(GuestExit(instance_uuid=UUID, reason="crashed", detail="killed by signal 9"))
        end = until(told, "guest_exit.end")
        assert end.payload["arguments"] == {"reason": "crashed", "detail": "killed by signal 9"}
        view = manager.get_instance(UUID)
        assert (view.vm_state, view.power_state) == (VmState.STOPPED, PowerState.CRASHED)
        assert view.fault is not None
        assert "signal 9" in view.fault.message
        assert world.left_of(UUID) == ["disk"]


@pytest.mark.parametrize("state", [None, PowerState.SHUTDOWN])
def test_a_guest_that_ended_while_no_agent_was_there(world: World, state: PowerState | None) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
    world.guests = {UUID: state} if state else {}
    with a_manager(world) as (manager, told):
        reason = until(told, "guest_exit.end").payload["arguments"]["reason"]
        assert reason == ("powered_off" if state else "crashed")
        assert world.left_of(UUID) == ["disk"]


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.PAUSED])
def test_a_guest_that_ran_runs_again_when_the_host_was_booted(world: World, state: VmState) -> None:
    """What was paused on purpose, and has lost its memory, is reported."""
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        if state is VmState.PAUSED:
            manager.submit(request_for("pause", {}))
            until(told, "pause.end")
    the_host_is_booted(world)
    with a_manager(world) as (manager, told):
        until(told, "host_boot.end" if state is VmState.ACTIVE else "guest_exit.end")
        view = manager.get_instance(UUID)
        assert view.vm_state is (VmState.ACTIVE if state is VmState.ACTIVE else VmState.STOPPED)
    with a_manager(world) as (manager, told):
        assert manager.list_operations(UUID, 2)[0].operation != "boot", "nothing more is done about it"


def the_host_is_booted(world: World) -> None:
    """Its guests are gone, and it has another boot id."""
    agent = Agent(world)
    agent.journal.set_host_boot(UUID, "before")
    agent.journal.close()
    world.guests.clear()
    world.taps.clear()


def test_a_guest_is_looked_for_though_the_unfinished_operation_did_not_need_it_any_more(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
    agent, request = Agent(world), request_for("extend_volume", {"disk": "disk0", "size_gb": 2})
    admit(agent.node, request)
    agent.journal.set_running(request.request_id)
    for step in EXTEND_VOLUME.steps:
        agent.journal.set_step(request.request_id, step.name, StepState.DONE)
    agent.journal.close()
    world.guests.clear()
    with a_manager(world) as (manager, told):
        until(told, "extend_volume.end")
        until(told, "guest_exit.end")
        assert manager.get_instance(UUID).power_state is PowerState.CRASHED


def test_a_running_guest_is_adopted(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
    world.touches.clear()
    with a_manager(world) as (manager, told):
        manager.submit(request_for("pause", {}))
        until(told, "pause.end")
        assert world.touches == ["before pause", "after pause"]
        assert manager.get_instance(UUID).power_state is PowerState.PAUSED


def test_a_terminate_does_not_wait_for_a_guest_that_will_not_shut_down(world: World) -> None:
    world.obedient = False
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        manager.submit(request_for("stop", {"timeout": 3600}))
        until(told, "stop.start")
        manager.submit(request_for("terminate", {}))
        until(told, "terminate.end")
        assert manager.list_instances() == []


def test_questions_about_what_is_not_there(world: World) -> None:
    with a_manager(world) as (manager, _):
        with pytest.raises(InstanceNotFound, match=UUID):
            manager.get_instance(UUID)
        with pytest.raises(OperationNotFound):
            manager.get_operation(UUID, 0.0)
        with pytest.raises(InstanceNotFound):
            manager.get_console_output(UUID, 10)


def test_diagnostics_of_a_stopped_instance(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        manager.submit(request_for("stop", {}))
        until(told, "stop.end")
        with pytest.raises(GuestGone):
            manager.get_diagnostics(UUID)


def test_a_guest_held_up_by_a_full_disk_is_paused_and_goes_on_when_it_is_resumed(world: World) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        world.guests[UUID] = PowerState.PAUSED
        world.on_disk_failure(DiskFailure(instance_uuid=UUID, disk="disk0", reason="no_space", detail="no space left"))
        until(told, "disk_error.end")
        view = manager.get_instance(UUID)
        assert view.vm_state is VmState.PAUSED
        assert view.fault == Fault(type="InsufficientResources", message="disk0: no space left")
        manager.submit(request_for("resume", {}))
        until(told, "resume.end")
        assert (manager.get_instance(UUID).vm_state, manager.get_instance(UUID).fault) == (VmState.ACTIVE, None)


@pytest.mark.parametrize(
    "ask", [lambda manager: manager.get_instance(UUID), lambda manager: manager.list_instances()[0]]
)
def test_who_asks_while_an_operation_ends_sees_it_before_or_after(
    world: World, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Manager], InstanceView]
) -> None:
    with a_manager(world) as (manager, told):
        manager.submit(request_for("boot", {}))
        until(told, "boot.end")
        stop = request_for("stop", {})
        manager._journal.add_operation(stop)
        journal, read = manager._journal, manager._journal.unfinished

        def end() -> None:
            with journal.transaction():
                journal.set_state(UUID, VmState.STOPPED, None)
                journal.finish(stop.request_id, OperationState.DONE, None)

        ending = Thread(target=end)

        def read_while_it_ends(*instance_uuid: str) -> list[OperationRow]:
            ending.start()
            ending.join(0.2)  # it may have to wait for those who read
            return read(*instance_uuid)

        monkeypatch.setattr(journal, "unfinished", read_while_it_ends)
        view = ask(manager)
        ending.join(10)
        assert (view.vm_state, view.task) in [(VmState.ACTIVE, "stop"), (VmState.STOPPED, None)]


MIGRATION = "00000000-0000-4000-8000-0000000000e1"
ROLLED_BACK = "rollback_live_migration_at_destination.end"


class Source:
    """The agent of the host that a guest comes from."""

    def __init__(self, answer: OperationState | ComputeAgentError) -> None:
        self._answer = answer

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        assert request_id == MIGRATION
        if isinstance(self._answer, ComputeAgentError):
            raise self._answer
        return OperationView(
            request_id=request_id,
            instance_uuid=UUID,
            operation="live_migration",
            state=self._answer,
            progress=0,
            steps=[],
            fault=None,
            accepted_at=0.0,
            finished_at=None,
        )


def a_guest_comes(world: World) -> None:
    """As an earlier agent has left it."""
    agent = Agent(world)
    incoming = Incoming(migration=MIGRATION, source="node0", address="127.0.0.1", mirrored=["disk0"])
    agent.journal.add_instance(InstanceRecord(instance=INSTANCE, incoming=incoming), VmState.INCOMING)
    agent.journal.close()
    world.guests[UUID] = PowerState.PAUSED
    world.disks.add(UUID)


@pytest.mark.parametrize("answer", [OperationState.FAILED, OperationNotFound(MIGRATION)])
def test_a_guest_that_does_not_come_after_all_is_rolled_back(
    world: World, answer: OperationState | ComputeAgentError
) -> None:
    a_guest_comes(world)
    with a_manager(world, lambda host: cast(Peer, Source(answer))) as (manager, told):
        until(told, ROLLED_BACK)
        assert world.left_of(UUID) == []
        assert manager.list_instances() == []


@pytest.mark.parametrize("answer", [OperationState.RUNNING, DeadlineExceeded("no answer"), HostError("no broker")])
def test_a_guest_that_may_still_come_is_waited_for_until_its_process_ends(
    world: World, answer: OperationState | ComputeAgentError
) -> None:
    a_guest_comes(world)
    asked = Event()

    def peers(host: str) -> Peer:
        asked.set()
        return cast(Peer, Source(answer))

    with a_manager(world, peers) as (manager, told):
        assert asked.wait(10)
        assert [one.vm_state for one in manager.list_instances()] == [VmState.INCOMING]
        del world.guests[UUID]
        world.on_exit(GuestExit(instance_uuid=UUID, reason="crashed", detail="it was killed"))
        until(told, ROLLED_BACK)
        assert world.left_of(UUID) == []


def test_a_guest_whose_process_ended_while_no_agent_was_there_is_rolled_back(world: World) -> None:
    a_guest_comes(world)
    del world.guests[UUID]
    with a_manager(world, lambda host: cast(Peer, Source(OperationState.RUNNING))) as (_, told):
        until(told, ROLLED_BACK)
        assert world.left_of(UUID) == []
