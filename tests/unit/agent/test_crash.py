"""Every operation, killed before and after each of its side effects, and killed again while recovering."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.journal import InstanceRow
from compute_agent.agent.request import Request
from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from tests.unit.agent.layering import FIRST
from tests.unit.agent.world import INSTANCE, OTHER_PORT, UUID, Agent, Killed, World

RUNNING = ["disk", "port", "guest"]

VOLUME_ID = "00000000-0000-4000-8000-0000000000d1"
COPY_ID, LATER_ID = "00000000-0000-4000-8000-0000000000c1", "00000000-0000-4000-8000-0000000000c2"
A_LAYER = {"disk": "disk0", "snapshot_id": COPY_ID}
QOS = DiskQos(total_iops_sec=100)
A_DISK_MORE = {"block_device": {"source_type": "blank", "size_gb": 1, "volume_id": VOLUME_ID}}
THE_PORT, A_PORT_MORE = {"port_id": OTHER_PORT.id}, {"port": msgspec.to_builtins(OTHER_PORT)}
WITH_PORT = [*RUNNING, "other port", "other tap", "other nic"]
WITH_DISK = [*RUNNING, "volume", "connection", "plugged"]

# operation, arguments, what came before, what is left at the end, the instance's last state
LIVES = {
    "boot": ({}, [], RUNNING, VmState.ACTIVE),
    "stop": ({}, ["boot"], ["disk"], VmState.STOPPED),
    "start": ({}, ["boot", "stop"], RUNNING, VmState.ACTIVE),
    "reboot": ({"reboot_type": "SOFT"}, ["boot"], RUNNING, VmState.ACTIVE),
    "reboot hard": ({"reboot_type": "HARD"}, ["boot"], RUNNING, VmState.ACTIVE),
    "host_boot": ({}, ["boot"], RUNNING, VmState.ACTIVE),
    "pause": ({}, ["boot"], RUNNING, VmState.PAUSED),
    "unpause": ({}, ["boot", "pause"], RUNNING, VmState.ACTIVE),
    "suspend": ({}, ["boot"], ["disk", "memory"], VmState.SUSPENDED),
    "resume": ({}, ["boot", "suspend"], RUNNING, VmState.ACTIVE),
    "attach_volume": (A_DISK_MORE, ["boot"], WITH_DISK, VmState.ACTIVE),
    "attach_volume stopped": (A_DISK_MORE, ["boot", "stop"], ["disk", "volume"], VmState.STOPPED),
    "detach_volume": ({"volume_id": VOLUME_ID}, ["boot", "attach_volume"], RUNNING, VmState.ACTIVE),
    "extend_volume": ({"disk": "disk0", "size_gb": 2}, ["boot"], RUNNING, VmState.ACTIVE),
    "set_disk_qos": (
        {"disk": "disk1", "qos": msgspec.to_builtins(QOS)},
        ["boot", "attach_volume"],
        WITH_DISK,
        VmState.ACTIVE,
    ),
    "attach_interface": (A_PORT_MORE, ["boot"], WITH_PORT, VmState.ACTIVE),
    "attach_interface stopped": (A_PORT_MORE, ["boot", "stop"], ["disk"], VmState.STOPPED),
    "detach_interface": (THE_PORT, ["boot", "attach_interface"], RUNNING, VmState.ACTIVE),
    "detach_interface stopped": (THE_PORT, ["boot", "attach_interface", "stop"], ["disk"], VmState.STOPPED),
    "start attached": ({}, ["boot", "stop", "attach_interface stopped"], WITH_PORT, VmState.ACTIVE),
    "reboot attached": ({"reboot_type": "HARD"}, ["boot", "attach_interface"], WITH_PORT, VmState.ACTIVE),
    "suspend attached": ({}, ["boot", "attach_interface"], ["disk", "memory"], VmState.SUSPENDED),
    "resume attached": ({}, ["boot", "attach_interface", "suspend"], WITH_PORT, VmState.ACTIVE),
    "terminate attached": ({}, ["boot", "attach_interface"], [], None),
    "snapshot": ({"image_id": COPY_ID}, ["boot"], [*RUNNING, "copy"], VmState.ACTIVE),
    "snapshot stopped": ({"image_id": COPY_ID}, ["boot", "stop"], ["disk", "copy"], VmState.STOPPED),
    "snapshot direct": ({"image_id": COPY_ID, "backend": "rbd"}, ["boot"], [*RUNNING, "copy"], VmState.ACTIVE),
    "backup": ({"backup_id": COPY_ID, "disks": None}, ["boot"], [*RUNNING, "mark", "copy"], VmState.ACTIVE),
    "backup stopped": ({"backup_id": COPY_ID}, ["boot", "stop"], ["disk", "mark", "copy"], VmState.STOPPED),
    "backup again": (
        {"backup_id": LATER_ID, "parent": COPY_ID},
        ["boot", "backup"],
        [*RUNNING, "mark", "copy"],
        VmState.ACTIVE,
    ),
    "restore": (
        {"backup_id": COPY_ID},
        ["boot", "stop", "backup stopped"],
        ["disk", "mark", "copy", "restored"],
        VmState.STOPPED,
    ),
    "volume_snapshot_create": (A_LAYER, ["boot", "backup"], [*RUNNING, "copy", "layer"], VmState.ACTIVE),
    "volume_snapshot_create stopped": (A_LAYER, ["boot", "stop"], ["disk", "layer"], VmState.STOPPED),
    "volume_snapshot_delete": (A_LAYER, ["boot", "volume_snapshot_create"], RUNNING, VmState.ACTIVE),
    "volume_snapshot_delete stopped": (A_LAYER, ["boot", "volume_snapshot_create", "stop"], ["disk"], VmState.STOPPED),
    "volume_snapshot_revert": (
        A_LAYER,
        ["boot", "volume_snapshot_create", "stop"],
        ["disk", "layer"],
        VmState.STOPPED,
    ),
    "start layered": ({}, ["boot", "volume_snapshot_create", "stop"], [*RUNNING, "layer"], VmState.ACTIVE),
    "terminate": ({}, ["boot"], [], None),
}

KILLABLE = [life for life in LIVES if life != "attach_interface stopped"]
"""That one changes nothing but the journal."""


def request_for(operation: str, arguments: dict[str, object]) -> Request:
    name = operation.split(maxsplit=1)[0]
    return Request(
        request_id=str(uuid.uuid4()),
        operation=name,
        instance_uuid=UUID,
        arguments=arguments,
        instance=INSTANCE if name == "boot" else None,
    )


def live(agent: Agent, operation: str) -> None:
    """Carry out an operation from acceptance to end."""
    request = request_for(operation, LIVES[operation][0])
    assert admit(agent.node, request)
    agent.carry_out(request)


def a_life_until(tmp_path: Path, operation: str, hypervisor: Literal["qemu", "vmm"] = "qemu") -> World:
    world = World(tmp_path, hypervisor=hypervisor)
    agent = Agent(world)
    for earlier in LIVES[operation][1]:
        live(agent, earlier)
    agent.journal.close()
    world.touches.clear()
    world.resets = world.starts = 0
    return world


def survive(world: World, life: Callable[[Agent], None]) -> bool:
    """Let an agent do something; True: it was killed."""
    agent = Agent(world)
    try:
        life(agent)
    except Killed:
        return True
    finally:
        agent.journal.close()
    return False


def assert_whole(world: World, operation: str) -> None:
    _, _, left, state = LIVES[operation]
    agent = Agent(world)
    assert world.left_of(UUID) == left
    assert agent.journal.unfinished() == []
    row = agent.journal.find_instance(UUID)
    assert (row.vm_state if row else None) == state
    last = agent.journal.operations(UUID, 1)[0]
    assert last.state is OperationState.DONE
    assert agent.events()[-1] == f"compute.instance.{operation.split(maxsplit=1)[0]}.end"
    assert world.starts <= 1
    assert world.resets <= 1
    if row is not None:
        assert newest_layer(row) in world.layering.whole
    if state is VmState.ACTIVE:
        assert world.guests[UUID] is PowerState.RUNNING
        assert row is not None and world.layering.writes_to == newest_layer(row)
    agent.journal.close()


def newest_layer(row: InstanceRow) -> str:
    """By the record: what a guest that starts writes to."""
    return ([FIRST] + [layer for device in row.record.instance.block_devices for layer in device.layers])[-1]


def moments_of(tmp_path: Path, operation: str, hypervisor: Literal["qemu", "vmm"] = "qemu") -> int:
    world = a_life_until(tmp_path, operation, hypervisor)
    assert not survive(world, lambda agent: live(agent, operation))
    assert_whole(world, operation)
    return len(world.touches)


def killed_at_each_moment(
    tmp_path: Path, operation: str, hypervisor: Literal["qemu", "vmm"] = "qemu"
) -> Iterator[World]:
    """For each moment of the operation a world whose agent was killed in it."""
    (tmp_path / "whole").mkdir()
    moments = moments_of(tmp_path / "whole", operation, hypervisor)
    assert moments >= 2
    for moment in range(1, moments + 1):
        directory = tmp_path / f"killed{moment}"
        directory.mkdir()
        world = a_life_until(directory, operation, hypervisor)
        world.kill_at = moment
        assert survive(world, lambda agent: live(agent, operation))
        world.kill_at = None
        yield world


SERVED = [name for name in LIVES if name.startswith(("snapshot", "backup", "volume_snapshot"))]
"""What whoever has the disks open does: of some instances, their block servers."""


@pytest.mark.parametrize(
    ("operation", "hypervisor"), [*((name, "qemu") for name in KILLABLE), *((name, "vmm") for name in SERVED)]
)
def test_killed_at_any_moment_an_operation_is_finished_by_the_next_agent(
    tmp_path: Path, operation: str, hypervisor: Literal["qemu", "vmm"]
) -> None:
    for world in killed_at_each_moment(tmp_path, operation, hypervisor):
        assert not survive(world, Agent.recover)
        assert_whole(world, operation)


@pytest.mark.parametrize("operation", KILLABLE)
def test_killed_again_at_any_moment_of_the_recovery(tmp_path: Path, operation: str) -> None:
    (tmp_path / "whole").mkdir()
    first = moments_of(tmp_path / "whole", operation) // 2
    for second in range(1, 100):
        directory = tmp_path / f"killed{second}"
        directory.mkdir()
        world = a_life_until(directory, operation)
        world.kill_at = first
        assert survive(world, lambda agent: live(agent, operation))
        world.touches.clear()
        world.kill_at = second
        killed_again = survive(world, Agent.recover)
        world.kill_at = None
        assert not survive(world, Agent.recover)
        assert_whole(world, operation)
        if not killed_again:
            return


@pytest.mark.parametrize("operation", ["stop", "reboot", "reboot hard", "pause", "unpause", "suspend", "terminate"])
def test_killed_with_its_guest_at_any_moment_nothing_of_that_is_left(tmp_path: Path, operation: str) -> None:
    left = {VmState.ACTIVE: RUNNING, VmState.STOPPED: ["disk"], VmState.SUSPENDED: ["disk", "memory"], None: []}
    for world in killed_at_each_moment(tmp_path, operation):
        world.power_failure()
        assert not survive(world, Agent.recover)
        agent = Agent(world)
        row = agent.journal.find_instance(UUID)
        assert world.left_of(UUID) == left[row.vm_state if row else None]
        agent.journal.close()


DEVICE_OPERATIONS = (
    *("attach_interface", "detach_interface"),
    *("attach_volume", "detach_volume", "extend_volume", "set_disk_qos", "snapshot", "backup", "restore"),
    *("volume_snapshot_create", "volume_snapshot_delete"),
)

# what is refused, what is left of the instance afterwards, its state
FAILURES = [
    ("boot", "create", [], VmState.ERROR),
    ("boot", "plug", [], VmState.ERROR),
    ("boot", "start", [], VmState.ERROR),
    ("start", "plug", ["disk"], VmState.STOPPED),
    ("start", "start", ["disk"], VmState.STOPPED),
    ("reboot", "reset", ["disk"], VmState.STOPPED),
    ("reboot hard", "start", ["disk"], VmState.STOPPED),
    ("pause", "pause", RUNNING, VmState.ACTIVE),
    ("suspend", "pause", RUNNING, VmState.ACTIVE),
    ("suspend", "save", RUNNING, VmState.ACTIVE),
    ("attach_volume", "make disk", RUNNING, VmState.ACTIVE),
    ("attach_volume", "connect disk", RUNNING, VmState.ACTIVE),
    ("attach_volume", "attach", RUNNING, VmState.ACTIVE),
    ("detach_volume", "detach", WITH_DISK, VmState.ACTIVE),
    ("extend_volume", "grow", RUNNING, VmState.ACTIVE),
    ("set_disk_qos", "limit", WITH_DISK, VmState.ACTIVE),
    ("attach_interface", "plug", RUNNING, VmState.ACTIVE),
    ("attach_interface", "hand over", RUNNING, VmState.ACTIVE),
    ("attach_interface", "attach", RUNNING, VmState.ACTIVE),
    ("detach_interface", "detach", WITH_PORT, VmState.ACTIVE),
    ("snapshot", "prepare copies", RUNNING, VmState.ACTIVE),
    ("snapshot", "begin copies", RUNNING, VmState.ACTIVE),
    ("snapshot", "copy", RUNNING, VmState.ACTIVE),
    ("snapshot", "keep copies", RUNNING, VmState.ACTIVE),
    ("snapshot stopped", "copy", ["disk"], VmState.STOPPED),
    ("snapshot direct", "take moment", RUNNING, VmState.ACTIVE),
    ("snapshot direct", "copy", RUNNING, VmState.ACTIVE),
    ("snapshot direct", "keep copies", RUNNING, VmState.ACTIVE),
    ("backup", "copy", RUNNING, VmState.ACTIVE),
    ("restore", "prepare disks", ["disk", "mark", "copy"], VmState.STOPPED),
    ("restore", "bring", ["disk", "mark", "copy"], VmState.STOPPED),
    ("volume_snapshot_create", "make layer", [*RUNNING, "copy"], VmState.ACTIVE),
    ("volume_snapshot_create", "add layer", [*RUNNING, "copy"], VmState.ACTIVE),
    ("volume_snapshot_create stopped", "make layer", ["disk"], VmState.STOPPED),
    ("volume_snapshot_delete", "begin commit", [*RUNNING, "layer"], VmState.ACTIVE),
    ("volume_snapshot_delete", "commit", [*RUNNING, "layer"], VmState.ACTIVE),
    ("volume_snapshot_delete", "finish commit", [*RUNNING, "layer"], VmState.ACTIVE),
    ("volume_snapshot_delete stopped", "commit", ["disk", "layer"], VmState.STOPPED),
    ("resume", "start", ["disk", "memory"], VmState.SUSPENDED),
    ("terminate", "delete", ["disk"], VmState.ERROR),
]


@pytest.mark.parametrize(("operation", "refused", "left", "state"), FAILURES)
def test_a_refused_side_effect_is_undone_and_reported(
    tmp_path: Path, operation: str, refused: str, left: list[str], state: VmState
) -> None:
    world = a_life_until(tmp_path, operation)
    world.fail_at = refused
    agent = Agent(world)
    live(agent, operation)
    assert world.left_of(UUID) == left
    row = agent.journal.instance(UUID)
    assert row.vm_state is state
    last = agent.journal.operations(UUID, 1)[0]
    assert last.state is OperationState.FAILED
    assert last.fault is not None and refused in last.fault.message
    own_fault = None if operation.split(maxsplit=1)[0] in DEVICE_OPERATIONS else last.fault
    assert row.fault == own_fault, "what happens to a device is not the instance's fault"
    assert agent.events()[-1] == f"compute.instance.{operation.split(maxsplit=1)[0]}.error"


@pytest.mark.parametrize("operation", ["volume_snapshot_create", "volume_snapshot_delete"])
def test_the_host_fails_at_any_moment_and_the_disk_is_whole(tmp_path: Path, operation: str) -> None:
    """The guest is gone too; the next one must find all that was written, wherever it was written to."""
    for world in killed_at_each_moment(tmp_path, operation):
        world.power_failure()
        assert not survive(world, Agent.recover)
        agent = Agent(world)
        assert agent.journal.operations(UUID, 1)[0].state is OperationState.DONE
        assert newest_layer(agent.journal.instance(UUID)) in world.layering.whole
        assert world.layering.files == ({COPY_ID} if operation.endswith("create") else set())
        agent.journal.close()


def test_a_guest_that_will_not_shut_down_is_reset_once(tmp_path: Path) -> None:
    world = a_life_until(tmp_path, "reboot")
    world.obedient = False
    agent = Agent(world)
    live(agent, "reboot")
    assert world.resets == 1
    assert world.guests[UUID] is PowerState.RUNNING


def test_a_guest_that_will_not_shut_down_is_forced_off(tmp_path: Path) -> None:
    world = a_life_until(tmp_path, "stop")
    world.obedient = False
    live(Agent(world), "stop")
    assert world.left_of(UUID) == ["disk"]


def test_a_suspended_guest_that_is_slow_to_die_keeps_its_saved_memory(tmp_path: Path) -> None:
    world = a_life_until(tmp_path, "suspend")
    world.undying = True
    agent = Agent(world)
    live(agent, "suspend")
    assert world.saved(UUID).exists()
    assert "resume" not in " ".join(world.touches)
    assert agent.journal.operations(UUID, 1)[0].state is OperationState.FAILED


def test_a_guest_that_starts_anew_leaves_no_memory_behind_that_could_be_loaded_into_it(tmp_path: Path) -> None:
    world = a_life_until(tmp_path, "stop")
    agent = Agent(world)
    live(agent, "stop")
    world.saved(UUID).touch()
    live(agent, "start")
    assert world.left_of(UUID) == RUNNING


def test_a_guest_that_a_failing_copy_has_held_up_goes_on(tmp_path: Path) -> None:
    world = a_life_until(tmp_path, "backup")
    world.fail_at = "copy"
    world.guests[UUID] = PowerState.PAUSED
    live(Agent(world), "backup")
    assert world.guests[UUID] is PowerState.RUNNING
    assert world.left_of(UUID) == RUNNING


def killed_when_started(tmp_path: Path) -> World:
    """The agent that starts a guest, which is there and runs."""
    world = a_life_until(tmp_path, "start")
    world.connections = 0
    world.on_moment = {"after start": lambda: setattr(world, "kill_at", len(world.touches))}
    assert survive(world, lambda agent: live(agent, "start"))
    assert world.guests == {UUID: PowerState.RUNNING}
    world.kill_at, world.on_moment = None, {}
    return world


def test_a_guest_that_was_started_before_gets_no_more_connections_to_its_disks(tmp_path: Path) -> None:
    """A block server lets each of them wait until its guest ends, and has room for two."""
    world = killed_when_started(tmp_path)
    assert not survive(world, Agent.recover)
    assert_whole(world, "start")
    assert world.connections == 1


def test_a_guest_that_has_run_to_its_end_before_it_was_known_to_run_is_started_with_all_it_has(tmp_path: Path) -> None:
    world = killed_when_started(tmp_path)
    world.guests[UUID] = PowerState.SHUTDOWN
    assert not survive(world, Agent.recover)
    assert world.left_of(UUID) == RUNNING
    assert world.guests == {UUID: PowerState.RUNNING} and world.connections == 2
