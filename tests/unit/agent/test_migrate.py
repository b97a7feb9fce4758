"""A stopped instance moves, or one that is stopped for that: whatever dies or is lost, one host has all of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from compute_agent.agent import execution
from compute_agent.agent.admission import admit
from compute_agent.agent.incidents import Incidents
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.operations import leaving
from compute_agent.agent.recovery import recover
from compute_agent.agent.request import Request
from compute_agent.errors import InvalidState
from compute_agent.instance.migration import Incoming
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from tests.unit.agent.test_crash import COPY_ID, live
from tests.unit.agent.test_live_migration import Pair, deaths_at, dest_of, lose_answers, source_of
from tests.unit.agent.world import INSTANCE, UUID, Agent, World, fresh_id


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(leaving, "dial", lambda *where: socket.socket())
    monkeypatch.setattr(leaving, "sealed", lambda connection, *credentials: connection)


def an_order(**arguments: object) -> Request:
    arguments = {"dest": "node2", "stop": False} | arguments
    return Request(request_id=fresh_id(), operation="migrate", instance_uuid=UUID, arguments=arguments)


class Stopped(Pair):
    """The instance does not run."""

    order = an_order()
    before = ("boot", "stop")
    running = False
    files: tuple[str, ...] = ("disk0",)

    def assert_one(self) -> None:
        super().assert_one()
        taken = set(self.files) if self.outcome() is OperationState.DONE else set()
        assert self.dest.moving.files_taken == taken, "its disks are not its own"


class StoppedForIt(Stopped):
    """It runs before and afterwards."""

    order = an_order(stop=True)
    before = ("boot",)
    running = True


class WithLayer(Stopped):
    """Its disk is of two files."""

    before = ("boot", "volume_snapshot_create", "stop")
    files = ("disk0", f"disk0.{COPY_ID}")


@pytest.fixture(params=[Stopped, StoppedForIt, WithLayer])
def kind(request: pytest.FixtureRequest) -> type[Pair]:
    found: type[Pair] = request.param
    return found


def test_the_agent_at_the_source_is_killed_at_any_moment(tmp_path: Path, kind: type[Pair]) -> None:
    assert OperationState.DONE in deaths_at(source_of, tmp_path, kind)


def test_the_agent_at_the_destination_is_killed_at_any_moment(tmp_path: Path, kind: type[Pair]) -> None:
    assert deaths_at(dest_of, tmp_path, kind) == {OperationState.DONE}


def test_any_answer_is_lost(tmp_path: Path, kind: type[Pair]) -> None:
    lose_answers(tmp_path, kind)


@pytest.mark.parametrize("refused", ["send files", "ask pre_live_migration", "ask get_incoming", "ask check"])
def test_what_fails_before_the_hand_over_is_undone(tmp_path: Path, kind: type[Pair], refused: str) -> None:
    pair = kind(tmp_path)
    pair.source.fail_at = refused
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED
    assert f"before {refused}" in pair.source.touches


def test_a_guest_that_is_stopped_for_it_is_started_again_whenever_that_is_cut_short(tmp_path: Path) -> None:
    whole = StoppedForIt(tmp_path / "whole")
    whole.source.fail_at = "send files"
    whole.move()
    whole.assert_one()
    begins = whole.source.touches.index("before send files")
    for moment in range(begins, len(whole.source.touches) + 1):
        pair = StoppedForIt(tmp_path / str(moment))
        pair.source.fail_at = "send files"
        pair.source.kill_at = moment
        pair.move()
        pair.assert_one()
        assert pair.outcome() is OperationState.FAILED


def test_disks_that_have_not_come_are_not_handed_over(tmp_path: Path) -> None:
    pair = Stopped(tmp_path)

    def lose() -> None:
        pair.dest.moving.files_came = set()

    pair.source.on_moment = {"before ask post_live_migration_at_destination": lose}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED


@pytest.mark.parametrize("kind", [Stopped, StoppedForIt])
def test_somebody_wishes_that_it_stays(tmp_path: Path, kind: type[Pair]) -> None:
    pair = kind(tmp_path)
    pair.source.on_moment = {
        "after ask get_incoming": lambda: pair.agent.node.wishes.update({pair.order.request_id: "abort"})
    }
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED and pair.agent.node.wishes == {}


def test_one_that_runs_is_stopped_only_on_request(tmp_path: Path) -> None:
    pair = StoppedForIt(tmp_path)
    agent = pair.agent_at_source()
    with pytest.raises(InvalidState, match="needs it to be stopped"):
        admit(agent.node, an_order())
    live(agent, "pause")
    with pytest.raises(InvalidState, match="is paused"):
        admit(agent.node, an_order(stop=True))
    assert pair.source.guests[UUID] is PowerState.PAUSED


class AtOnce:
    """In place of lanes."""

    def submit(self, lane: str, job: Callable[[], None]) -> None:
        job()


@dataclass
class Heard:
    """In place of incidents."""

    rolled_back: list[str] = field(default_factory=list)

    def migration_over(self, instance_uuid: str) -> None:
        self.rolled_back.append(instance_uuid)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_new_agent_waits_on_for_one_that_needs_no_process_to_come(tmp_path: Path, is_stopped: bool) -> None:
    agent, heard = Agent(World(tmp_path)), Heard()
    incoming = Incoming(
        migration=fresh_id(), source="node0", address="127.0.0.1", mirrored=["disk0"], is_stopped=is_stopped
    )
    agent.journal.add_instance(InstanceRecord(instance=INSTANCE, incoming=incoming), VmState.INCOMING)
    recover(agent.node, cast(Lanes, AtOnce()), agent.carry_out, cast(Incidents, heard))
    assert heard.rolled_back == ([] if is_stopped else [UUID])
