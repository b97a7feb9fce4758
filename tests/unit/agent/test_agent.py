"""Admission, lanes, outbox and reconciler."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import msgspec
import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.journal import Journal
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.operations import steps
from compute_agent.agent.outbox import Outbox
from compute_agent.agent.reconciler import Reconciler
from compute_agent.agent.request import Request
from compute_agent.errors import (
    GuestStartFailed,
    HostError,
    InstanceExists,
    InstanceNotFound,
    InsufficientResources,
    InvalidState,
    RecordTooNew,
    RequestMismatch,
)
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Flavor
from compute_agent.instance.record import InstanceRecord, decode_record, encode_record
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Notification
from compute_agent.virt.contract import Guest, StartRequest
from tests.unit.agent.test_crash import live, request_for
from tests.unit.agent.world import INSTANCE, OTHER_PORT, PORT_ID, UUID, Agent, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def agent(world: World) -> Iterator[Agent]:
    agent = Agent(world)
    yield agent
    agent.journal.close()


def test_the_same_request_twenty_times_at_once_is_accepted_once(agent: Agent) -> None:
    request = request_for("boot", {})
    with ThreadPoolExecutor(20) as pool:
        accepted = list(pool.map(lambda _: admit(agent.node, request), range(20)))
    assert accepted.count(True) == 1
    assert len(agent.journal.unfinished()) == 1


def test_a_request_id_used_for_something_else(agent: Agent) -> None:
    request = request_for("boot", {})
    admit(agent.node, request)
    other = msgspec.structs.replace(request, operation="terminate", instance=None)
    with pytest.raises(RequestMismatch, match=request.request_id):
        admit(agent.node, other)


def test_a_uuid_in_use(agent: Agent) -> None:
    live(agent, "boot")
    with pytest.raises(InstanceExists, match=UUID):
        admit(agent.node, request_for("boot", {}))


def test_an_unknown_instance(agent: Agent) -> None:
    with pytest.raises(InstanceNotFound, match=UUID):
        admit(agent.node, request_for("stop", {}))
    assert agent.journal.unfinished() == []


def test_an_operation_that_the_state_does_not_allow(agent: Agent) -> None:
    live(agent, "boot")
    with pytest.raises(InvalidState, match="is active: start needs it to be stopped"):
        admit(agent.node, request_for("start", {}))


def test_the_state_counts_when_the_operations_before_are_through(agent: Agent) -> None:
    live(agent, "boot")
    stop, start = request_for("stop", {}), request_for("start", {})
    admit(agent.node, stop)
    admit(agent.node, start)
    agent.recover()
    assert [row.state for row in agent.journal.operations(UUID, 2)] == ["done", "done"]


@pytest.mark.parametrize(
    ("flavor", "field"),
    [(Flavor(vcpus=255, memory_mb=64), "instance.flavor.vcpus"), (Flavor(vcpus=1, memory_mb=2**24), "memory_mb")],
)
def test_more_than_the_host_has(agent: Agent, flavor: Flavor, field: str) -> None:
    request = msgspec.structs.replace(
        request_for("boot", {}), instance=msgspec.structs.replace(INSTANCE, flavor=flavor)
    )
    with pytest.raises(InsufficientResources, match=field):
        admit(agent.node, request)
    assert agent.journal.instances() == []


def test_a_failed_boot_can_be_terminated_and_its_uuid_used_again(world: World, agent: Agent) -> None:
    world.fail_at = "start"
    live(agent, "boot")
    world.fail_at = None
    live(agent, "terminate")
    live(agent, "boot")
    assert world.left_of(UUID) == ["disk", "port", "guest"]


def test_a_record_from_before_disks_had_layers_is_read_and_kept_as_a_new_one() -> None:
    data = encode_record(InstanceRecord(instance=INSTANCE)).replace(b'"version":5', b'"version":1')
    assert decode_record(data.replace(b',"layers":[]', b"")).version == 5


def test_a_record_from_before_there_were_two_hypervisors_is_read_with_its_machine() -> None:
    machine = Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator="kvm", cpu="host", slots={"disk0": 0})
    record = InstanceRecord(instance=INSTANCE, machine=machine)
    data = encode_record(record).replace(b'"version":5', b'"version":2').replace(b'"hypervisor_reason":"",', b"")
    assert decode_record(data).machine == machine


def test_the_ports_of_a_record_from_before_they_had_names_are_called_as_they_were() -> None:
    ports = [INSTANCE.ports[0], OTHER_PORT]
    data = encode_record(InstanceRecord(instance=msgspec.structs.replace(INSTANCE, ports=ports)))
    old = data.replace(b'"version":5', b'"version":3').replace(b'"device_name":null,', b"")
    assert [port.device_name for port in decode_record(old).instance.ports] == ["net0", "net1"]


def test_a_record_of_a_newer_agent_is_refused() -> None:
    data = encode_record(InstanceRecord(instance=INSTANCE)).replace(b'"version":5', b'"version":6')
    with pytest.raises(RecordTooNew, match="version 6"):
        decode_record(data)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("instances", "record", b"{"),
        ("instances", "record", b'{"version": "\xff"}'),
        ("instances", "record", b"[" * 5000 + b"]" * 5000),
        ("instances", "record", b'{"version": 3, "instance": {"\\n": 5}}'),
        ("instances", "vm_state", "asleep"),
        ("operations", "request", b"5"),
        ("steps", "state", "almost"),
    ],
)
def test_a_row_that_no_agent_has_written(tmp_path: Path, agent: Agent, table: str, column: str, value: object) -> None:
    live(agent, "boot")
    with sqlite3.connect(tmp_path / "journal.sqlite") as foreign:
        foreign.execute(f"UPDATE {table} SET {column} = ?", (value,))
    with pytest.raises(HostError, match=UUID if table == "instances" else "request") as caught:
        (agent.journal.instances(), agent.journal.operations(None, 10))
    assert str(caught.value).isprintable()


def test_a_file_that_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database, by any measure" * 100)
    with pytest.raises(HostError, match=r"journal\.sqlite"):
        Journal(path)


def test_finished_operations_beyond_the_history_are_forgotten(agent: Agent) -> None:
    live(agent, "boot")
    for _ in range(3):
        live(agent, "stop")
        live(agent, "start")
    pending = request_for("stop", {})
    admit(agent.node, pending)
    agent.journal.forget_operations_beyond(2)
    assert [row.request.operation for row in agent.journal.operations(None, 100)] == ["stop", "start", "stop"]


def test_only_what_was_unwanted_twice_is_removed(world: World, agent: Agent) -> None:
    live(agent, "boot")
    agent.journal.remove_instance(UUID)
    reconciler = Reconciler(agent.node, 3600, lambda lane, job: job(), lambda uuid: None)
    reconciler.close(5)
    for dry_run in (False, True, False):
        was_left = world.left_of(UUID)
        found = reconciler.look(dry_run=dry_run)
        assert [one.kind for one in found] == sorted(was_left)
    assert all(one.due for one in found)
    assert world.left_of(UUID) == []
    assert reconciler.look() == []


def test_a_port_of_a_stopped_instance_is_a_leftover_and_one_of_a_running_is_not(world: World, agent: Agent) -> None:
    live(agent, "boot")
    reconciler = Reconciler(agent.node, 3600, lambda lane, job: job(), lambda uuid: None)
    reconciler.close(5)
    for _ in range(3):
        reconciler.look()
    assert world.left_of(UUID) == ["disk", "port", "guest"]
    live(agent, "stop")
    world.ports.add(PORT_ID)
    for _ in range(2):
        reconciler.look()
    assert world.left_of(UUID) == ["disk"]


def test_a_port_that_a_running_instance_is_not_known_to_have_is_a_leftover(world: World, agent: Agent) -> None:
    live(agent, "boot")
    live(agent, "attach_interface")
    reconciler = Reconciler(agent.node, 3600, lambda lane, job: job(), lambda uuid: None)
    reconciler.close(5)
    stray = "20000000-0000-4000-8000-0000000000f3"
    world.ports.add(stray)
    reconciler.look()
    assert stray in world.ports
    reconciler.look()
    assert world.ports == {PORT_ID, OTHER_PORT.id}


def test_what_is_foreign_is_shown_and_told_of_once(
    world: World, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = Reconciler(agent.node, 3600, lambda lane, job: job(), lambda uuid: None)
    reconciler.close(5)
    world.foreign = {"strange"}
    seen = ["file strange", "port strange", "process strange"]
    assert [one.what for one in reconciler.look(dry_run=True)] == seen
    for told in (0, 1, 1, 1):
        found = reconciler.look()
        assert [(one.kind, one.what, one.due) for one in found] == [("foreign", what, False) for what in seen]
        assert caplog.text.count("port strange") == told
    world.foreign = set()
    assert reconciler.look() == []
    assert world.touches == []


def test_a_lane_keeps_its_order_and_lanes_do_not_wait_for_each_other() -> None:
    lanes, seen, gate = Lanes(workers=2), SimpleQueue[str](), threading.Event()
    lanes.submit("slow", gate.wait)
    lanes.submit("slow", lambda: seen.put("slow"))
    lanes.submit("fast", lambda: seen.put("fast"))
    assert seen.get(timeout=5) == "fast"
    gate.set()
    assert seen.get(timeout=5) == "slow"
    lanes.close(5)


def test_a_job_that_fails_does_not_stop_its_lane(caplog: pytest.LogCaptureFixture) -> None:
    lanes, seen = Lanes(workers=1), SimpleQueue[str]()
    lanes.submit("a", lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    lanes.submit("a", lambda: seen.put("next"))
    assert seen.get(timeout=5) == "next"
    assert "ZeroDivisionError" in caplog.text
    lanes.close(5)


def test_notifications_wait_for_the_broker_and_keep_their_order(agent: Agent) -> None:
    delivered, attempts = SimpleQueue[str](), []

    def publish(notification: Notification) -> None:
        attempts.append(notification)
        if len(attempts) < 3:
            raise HostError("the broker is away")
        if len(attempts) == 3:
            raise TypeError("a defect of ours")
        delivered.put(notification.event_type)

    for number in range(3):
        agent.journal.add_notification(Notification(event_type=f"event{number}", payload={}))
    outbox = Outbox(agent.journal, publish)
    assert [delivered.get(timeout=10) for _ in range(3)] == ["event0", "event1", "event2"]
    outbox.close(5)
    assert agent.journal.waiting_notifications(10) == []


def test_a_request_says_what_it_wants_in_its_digest() -> None:
    request = Request(request_id="r", operation="stop", instance_uuid=UUID, arguments={"timeout": 1, "a": 2})
    same = msgspec.structs.replace(request, arguments={"a": 2, "timeout": 1})
    assert request.digest() == same.digest()
    assert request.digest() != msgspec.structs.replace(request, arguments={"timeout": 2, "a": 2}).digest()


@pytest.mark.parametrize(("patience", "state"), [(0.0, VmState.ACTIVE), (60.0, VmState.ERROR)])
def test_a_start_that_took_longer_than_block_servers_wait_is_tried_once_more(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, patience: float, state: VmState
) -> None:
    start, failures = agent.node.hypervisor.start, [GuestStartFailed("end of file")]

    def fail_first(request: StartRequest) -> Guest:
        if failures:
            raise failures.pop()
        return start(request)

    monkeypatch.setattr(agent.node.hypervisor, "start", fail_first)
    monkeypatch.setattr(steps, "HANDSHAKE", patience)
    live(agent, "boot")
    assert agent.journal.instance(UUID).vm_state is state


def test_starts_that_were_too_slow_together_are_repeated_one_by_one(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(agent, "boot")
    record = agent.journal.instance(UUID).record
    works = [SimpleNamespace(node=agent.node, instance=INSTANCE, record=record) for _ in range(4)]
    together, alone, begun, done = threading.Barrier(4, timeout=10), threading.Lock(), [], []

    def start(work: SimpleNamespace, *_: object, **__: object) -> None:
        if id(work) not in begun:
            begun.append(id(work))
            together.wait()
            raise GuestStartFailed("end of file")
        assert alone.acquire(blocking=False)
        time.sleep(0.01)  # that others could begin
        alone.release()
        done.append(work)

    monkeypatch.setattr(steps, "_launch", start)
    monkeypatch.setattr(steps, "HANDSHAKE", 0.0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(steps.launch, works))
    assert len(done) == 4
