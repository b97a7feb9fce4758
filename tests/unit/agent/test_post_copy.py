"""A guest that goes on before all of its memory has come: whatever dies or is lost, one host owns it."""

from __future__ import annotations

import socket
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from compute_agent.agent import execution
from compute_agent.agent.admission import admit
from compute_agent.agent.operations import leaving, live_migration, post_copy
from compute_agent.agent.request import Request
from compute_agent.errors import DeadlineExceeded, MigrationRefused
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import OperationState
from compute_agent.virt.vmm.driver import VmmHypervisor
from tests.unit.agent.test_live_migration import (
    MOVE,
    Destination,
    Pair,
    Waits,
    deaths_at,
    dest_of,
    let_both_die,
    lose_answers,
    source_of,
)
from tests.unit.agent.world import UUID, Agent, World, fresh_id

ASKS = "ask post_live_migration_at_destination"


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(seconds: float) -> None:
        raise Waits

    monkeypatch.setattr(execution, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(live_migration, "_LOOK_AGAIN", 0.0)
    for module in (live_migration, leaving):
        monkeypatch.setattr(module, "dial", lambda *where: socket.socket())
    monkeypatch.setattr(leaving, "sealed", lambda connection, *credentials: connection)
    monkeypatch.setattr(post_copy, "dial", lambda *where: _connection())
    monkeypatch.setattr(post_copy, "SETTLED", 0.0)
    monkeypatch.setattr(post_copy, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))


def _connection() -> socket.socket:
    """The process there has been told of it."""
    there, here = socket.socketpair()
    with there:
        there.sendall(b".")
    return here


class Hasty(Pair):
    """The guest writes for ever, its time is over at once, and the policy is post-copy."""

    def __init__(self, directory: Path, timeout: float = -1.0) -> None:
        super().__init__(directory)
        for world in (self.source, self.dest):
            world.moving.on_timeout, world.moving.timeout = "post-copy", timeout

    def assert_lost(self, why: str) -> None:
        """It is the new host's, which says that it has crashed, and why; nothing is left at the old one."""
        assert self.outcome() is OperationState.DONE
        assert (self.runners(), self.source.left_of(UUID)) == ([], [])
        assert self.dest.left_of(UUID) == (["disk", "layer"] if self.layers else ["disk"])
        agent = Agent(self.dest)
        row = agent.journal.instance(UUID)
        assert (row.vm_state, row.record.incoming, row.record.epoch) == (VmState.STOPPED, None, 1)
        assert row.fault is not None
        assert why in row.fault.message
        assert agent.journal.unfinished() == []
        agent.journal.close()


class HastyWithLayers(Hasty):
    """What it writes is in a file above one that it only reads."""

    before = ("boot", "volume_snapshot_create")


class HastyEncrypted(Hasty):
    encrypted = True


KINDS = pytest.mark.parametrize("kind", [Hasty, HastyWithLayers])


def _die(world: World) -> None:
    world.moving.end()
    world.guests.pop(UUID, None)


@pytest.mark.parametrize("kind", [Hasty, HastyWithLayers, HastyEncrypted])
def test_it_goes_on_there_and_the_rest_follows(tmp_path: Path, kind: type[Hasty]) -> None:
    pair, ran = kind(tmp_path), []
    pair.source.on_moment = {"before send rest": lambda: ran.append(pair.runners() == [pair.dest])}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.DONE
    assert ran == [True, True], "it ran there before all of its memory was there"
    touches = pair.source.touches
    assert touches.index("after send rest") < touches.index("before kill")


def test_while_the_rest_follows_it_is_active_and_its_processes_are_left_alone(tmp_path: Path) -> None:
    pair, states = Hasty(tmp_path), []

    def look() -> None:
        agent = Agent(pair.dest)
        states.append(agent.journal.instance(UUID).vm_state)
        agent.journal.close()

    pair.source.on_moment = {"before send rest": look}
    pair.move()
    pair.assert_one()
    assert states == [VmState.ACTIVE, VmState.ACTIVE]


@KINDS
def test_the_agent_at_the_source_is_killed_at_any_moment(tmp_path: Path, kind: type[Hasty]) -> None:
    assert deaths_at(source_of, tmp_path, kind) == {OperationState.DONE, OperationState.FAILED}


@KINDS
def test_the_agent_at_the_destination_is_killed_at_any_moment(tmp_path: Path, kind: type[Hasty]) -> None:
    assert deaths_at(dest_of, tmp_path, kind) == {OperationState.DONE}


def test_both_agents_are_killed_at_any_moment(tmp_path: Path) -> None:
    let_both_die(tmp_path, Hasty)


@KINDS
def test_any_answer_is_lost(tmp_path: Path, kind: type[Hasty]) -> None:
    lose_answers(tmp_path, kind)


@pytest.mark.parametrize("moment", ["begin copy", "switch", ASKS])
def test_the_process_at_the_destination_dies_before_the_guest_is_its_own(tmp_path: Path, moment: str) -> None:
    pair = Hasty(tmp_path)
    pair.source.on_moment = {f"before {moment}": partial(_die, pair.dest)}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED


def test_the_process_there_has_locked_a_file_that_both_have_and_ends_before_the_guest_goes_on_here(
    tmp_path: Path,
) -> None:
    def be_silent() -> None:
        raise DeadlineExceeded("the monitor does not answer")

    pair = Hasty(tmp_path)
    pair.source.on_moment = {"after switch": be_silent}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED
    touches = pair.source.touches
    assert touches.index("after ask rollback_live_migration_at_destination") < touches.index("before resume")


def test_the_agent_at_the_source_is_killed_while_it_takes_the_guest_back(tmp_path: Path) -> None:
    whole = Hasty(tmp_path / "whole")
    whole.source.on_moment = {f"before {ASKS}": partial(_die, whole.dest)}
    whole.move()
    whole.assert_one()
    for moment in range(whole.source.touches.index(f"before {ASKS}") + 1, len(whole.source.touches) + 1):
        pair = Hasty(tmp_path / str(moment))
        pair.source.on_moment = {f"before {ASKS}": partial(_die, pair.dest)}
        pair.source.kill_at = moment
        pair.move()
        pair.assert_one()
        assert pair.outcome() is OperationState.FAILED


@pytest.mark.parametrize("moment", [f"before {ASKS}", f"after {ASKS}", "after send rest"])
def test_the_link_breaks_and_the_rest_follows_over_another_connection(tmp_path: Path, moment: str) -> None:
    pair = Hasty(tmp_path)
    pair.source.on_moment = {moment: lambda: pair.source.touches.count(moment) == 1 and pair.source.moving.cut()}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.DONE
    assert pair.source.touches.count("after reconnect") == 1


def test_the_link_breaks_and_an_agent_is_killed_at_any_moment(tmp_path: Path) -> None:
    def cut(pair: Hasty) -> Hasty:
        pair.source.on_moment = {f"after {ASKS}": pair.source.moving.cut}
        return pair

    whole = cut(Hasty(tmp_path / "whole"))
    whole.move()
    whole.assert_one()
    for side in ("source", "dest"):
        for moment in _late_moments(getattr(whole, side)):
            pair = cut(Hasty(tmp_path / f"{side}-{moment}"))
            getattr(pair, side).kill_at = moment
            pair.move()
            pair.assert_one()


@KINDS
@pytest.mark.parametrize("moment", [f"after {ASKS}", "after send rest"])
def test_the_process_at_the_source_dies_and_the_guest_has_crashed_where_it_is(
    tmp_path: Path, kind: type[Hasty], moment: str
) -> None:
    pair = kind(tmp_path)
    pair.source.on_moment = {moment: lambda: pair.source.moving.rest and _die(pair.source)}
    pair.move()
    pair.assert_lost("what was left of its memory on node1 is lost")


@KINDS
@pytest.mark.parametrize("moment", ["before send rest", "after send rest"])
def test_the_process_at_the_destination_dies_and_the_guest_has_crashed_there(
    tmp_path: Path, kind: type[Hasty], moment: str
) -> None:
    pair = kind(tmp_path)
    pair.source.on_moment = {moment: lambda: pair.source.moving.rest and _die(pair.dest)}
    pair.move()
    pair.assert_lost("its process ended before it was known to have all of its memory")


def test_a_process_dies_and_an_agent_at_any_moment(tmp_path: Path) -> None:
    for which in ("source", "dest"):
        for side in ("source", "dest"):
            whole = _dying(tmp_path / f"{which}-{side}", which)
            whole.move()
            for moment in _late_moments(getattr(whole, side)):
                pair = _dying(tmp_path / f"{which}-{side}-{moment}", which)
                getattr(pair, side).kill_at = moment
                pair.move()
                if pair.outcome() is OperationState.DONE and not pair.runners():
                    pair.assert_lost("memory")
                else:
                    pair.assert_one()


def _late_moments(world: World) -> range:
    """From when the guest has been halted at the one, or awaited at the other: those before are in the tests above."""
    begun = "after switch" if "after switch" in world.touches else "after start"
    return range(world.touches.index(begun) + 1, len(world.touches) + 1)


def _dying(directory: Path, which: str) -> Hasty:
    pair = Hasty(directory)
    world: World = getattr(pair, which)
    pair.source.on_moment = {"after send rest": lambda: pair.source.moving.rest and _die(world)}
    return pair


def test_one_that_waits_for_its_memory_can_be_terminated(tmp_path: Path) -> None:
    pair, request = Hasty(tmp_path), Request(request_id=fresh_id(), operation="terminate", instance_uuid=UUID)

    def terminate() -> None:
        pair.source.moving.cut()
        agent = Agent(pair.dest, lambda host: Destination(pair), "node2")
        assert admit(agent.node, request)
        agent.recover()
        agent.journal.close()

    pair.source.on_moment = {f"after {ASKS}": terminate}
    pair.move()
    assert pair.outcome() is OperationState.DONE
    assert [world.left_of(UUID) for world in (pair.source, pair.dest)] == [[], []]
    assert pair.runners() == []


def test_somebody_wishes_that_it_gets_there_and_it_is_not_paused_for_that(tmp_path: Path) -> None:
    pair = Hasty(tmp_path, timeout=3600.0)
    wish = {MOVE.request_id: "force"}
    pair.source.on_moment = {"after copy most of it": lambda: pair.agent.node.wishes.update(wish)}  # type: ignore[arg-type]
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.DONE
    assert "before pause" not in pair.source.touches
    assert "after send rest" in pair.source.touches


def test_a_guest_of_vmm_cannot_come_so(tmp_path: Path) -> None:
    hypervisor = VmmHypervisor.__new__(VmmHypervisor)
    with pytest.raises(MigrationRefused, match=r"post-copy: a guest of vmm"):
        hypervisor.check_incoming(None, None, post_copy=True)  # type: ignore[arg-type]


def test_power_states_are_what_the_processes_say(tmp_path: Path) -> None:
    pair, states = Hasty(tmp_path), []
    pair.source.on_moment = {
        "after send rest": lambda: states.append((pair.source.guests.get(UUID), pair.dest.guests.get(UUID)))
    }
    pair.move()
    assert states == [(PowerState.PAUSED, PowerState.RUNNING)] * 2
