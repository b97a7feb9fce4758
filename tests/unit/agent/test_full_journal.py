"""The journal's disk is full at any moment: nothing is lost, nothing happens twice."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from compute_agent.agent import lanes
from compute_agent.agent.admission import admit
from compute_agent.agent.journal import Journal
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.outbox import Outbox
from compute_agent.errors import HostError, JournalError
from compute_agent.instance.view import Notification
from compute_agent.rpc import asking
from compute_agent.rpc.peer_client import PeerClient
from tests.unit.agent.test_crash import KILLABLE, LIVES, SERVED, a_life_until, assert_whole, request_for
from tests.unit.agent.world import Agent


class FullDisk:
    """A journal's connection that refuses some commits, as SQLite does when there is no room."""

    def __init__(self, journal: Journal, *refused: int) -> None:
        """The first commit is 1."""
        self._connection = journal._database._connection
        self._refused, self._commits = refused, 0
        journal._database._connection = cast(sqlite3.Connection, self)

    @property
    def was_full(self) -> bool:
        return self._commits >= self._refused[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: Any) -> Any:
        self._commits += 1
        if self._commits in self._refused and error[0] is None:
            self._connection.rollback()
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.__exit__(*error)


def carry_out_in_spite(agent: Agent, operation: str) -> None:
    """What a controller and lanes do: ask again, and go on."""
    request, todo = request_for(operation, LIVES[operation][0]), [True, True]
    while todo:
        try:
            if len(todo) == 2:
                assert admit(agent.node, request)
            else:
                agent.carry_out(request)
            todo.pop()
        except JournalError as error:
            assert "disk is full" in str(error)


@pytest.mark.parametrize(
    ("operation", "hypervisor"), [*((name, "qemu") for name in KILLABLE), *((name, "vmm") for name in SERVED)]
)
def test_an_operation_gets_to_its_end_though_the_journal_is_full_now_and_then(
    tmp_path: Path, operation: str, hypervisor: Literal["qemu", "vmm"]
) -> None:
    world = a_life_until(tmp_path, operation, hypervisor)
    agent = Agent(world)
    disk = FullDisk(agent.journal, *(1 + number * (number + 3) // 2 for number in range(20)))  # 1, 3, 6, 10, ...
    carry_out_in_spite(agent, operation)
    agent.journal.close()
    assert disk.was_full
    assert_whole(world, operation)


@pytest.mark.parametrize("operation", ["boot", "suspend", "attach_interface", "volume_snapshot_delete", "terminate"])
def test_an_operation_goes_on_whichever_note_the_journal_had_no_room_for(tmp_path: Path, operation: str) -> None:
    for refused in range(1, 100):
        directory = tmp_path / f"{refused}"
        directory.mkdir()
        world = a_life_until(directory, operation)
        agent = Agent(world)
        disk = FullDisk(agent.journal, refused)
        carry_out_in_spite(agent, operation)
        agent.journal.close()
        assert_whole(world, operation)
        if not disk.was_full:
            return


def test_a_request_that_cannot_be_written_down_changes_nothing(tmp_path: Path) -> None:
    agent = Agent(a_life_until(tmp_path, "boot"))
    FullDisk(agent.journal, 1)
    with pytest.raises(JournalError, match="disk is full"):
        admit(agent.node, request_for("boot", {}))
    assert agent.journal.instances() == agent.journal.unfinished() == []


def test_a_step_that_cannot_be_taken_back_now_is_taken_back_later(tmp_path: Path) -> None:
    """It was refused, and then the journal was full."""
    world = a_life_until(tmp_path, "boot")
    world.fail_at = "start"
    agent = Agent(world)
    request = request_for("boot", {})
    assert admit(agent.node, request)
    disk = FullDisk(agent.journal, 5)  # three steps begin, the machine is kept
    while agent.journal.unfinished():
        try:
            agent.carry_out(request)
        except JournalError:
            assert agent.journal.operation(request.request_id).fault is None
    assert disk.was_full
    assert world.left_of(request.instance_uuid) == []
    assert agent.events()[-1] == "compute.instance.boot.error"


def test_the_journal_says_whether_it_can_be_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    FullDisk(journal, 2)
    said = [journal.fault() for _ in range(3)]
    assert said == [None, "the journal cannot be written: database or disk is full", None]


def test_a_damaged_journal_is_not_waited_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.close()
    with pytest.raises(HostError) as failed:
        journal.instances()
    assert not isinstance(failed.value, JournalError)


def test_a_lane_waits_for_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SHORTEST_PAUSE", 0.001)
    seen, done, at_work = [], threading.Event(), Lanes(workers=1)

    def job() -> None:
        seen.append("begun")
        if len(seen) < 3:
            raise JournalError("the journal cannot be written", "database or disk is full")

    at_work.submit("a", job)
    at_work.submit("a", done.set)
    assert done.wait(5)
    assert seen == ["begun"] * 3
    at_work.close(5)


def test_lanes_that_wait_for_the_journal_can_be_closed() -> None:
    begun, at_work = threading.Event(), Lanes(workers=1)

    def job() -> None:
        begun.set()
        raise JournalError("the journal cannot be written", "database or disk is full")

    at_work.submit("a", job)
    assert begun.wait(5)
    at_work.close(60)
    assert at_work._waiting == {}


def test_what_was_published_is_not_published_again(tmp_path: Path) -> None:
    journal, told, twice = Journal(tmp_path / "journal.sqlite"), list[str](), threading.Event()
    journal.add_notification(Notification(event_type="first", payload={}))
    FullDisk(journal, 1)

    def publish(notification: Notification) -> None:
        told.append(notification.event_type)
        if len(told) == 2:
            twice.set()

    outbox = Outbox(journal, publish)
    journal_was_full = threading.Event()
    monitor = partial(journal.waiting_notifications, 10)
    while monitor():
        journal_was_full.wait(0.005)
    journal.add_notification(Notification(event_type="second", payload={}))
    outbox.wake()
    assert twice.wait(5)
    outbox.close(5)
    assert told == ["first", "second"]


def test_another_hosts_journal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullChannel:
        def __init__(self, *_: object) -> None: ...

        def call(self, *_: object) -> object:
            raise JournalError("the journal cannot be written", "database or disk is full")

    monkeypatch.setattr(asking, "Channel", FullChannel)
    with pytest.raises(HostError, match="host node2: the journal cannot be written") as failed:
        PeerClient(cast(Any, None), "node2").get_host()
    assert not isinstance(failed.value, JournalError)
