"""Not more guests leave a host at once than may, in the order in which they were told to, and whoever dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue

import pytest

from compute_agent.agent.admission import admit
from compute_agent.agent.journal import Journal
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.request import Request
from compute_agent.agent.turns import AWAIT_TURN, HAND_OVER, Turns
from compute_agent.instance.view import OperationState, StepState
from tests.unit.agent.test_live_migration import MOVE, Pair

MOVES = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 6)]
OTHER = "00000000-0000-4000-8000-0000000000aa"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """All of them have been told to, and wait."""
    journal = Journal(tmp_path / "journal.sqlite")
    for one in MOVES:
        begin(journal, one)
    yield journal
    journal.close()


def an_order(request_id: str) -> Request:
    return Request(request_id=request_id, operation="migrate", instance_uuid=OTHER, arguments={"dest": "node2"})


def begin(journal: Journal, request_id: str) -> None:
    journal.add_operation(an_order(request_id))
    journal.set_step(request_id, AWAIT_TURN, StepState.INTENDED)


def takers(turns: Turns) -> list[int]:
    """Which ones it is the turn of, if all look."""
    return [MOVES.index(one) for one in reversed(MOVES) if turns.take(one)]


def test_it_is_the_turn_of_those_that_were_told_first(journal: Journal) -> None:
    turns = Turns(journal, 2, nullcontext)
    assert takers(turns) == [1, 0]
    assert takers(turns) == []
    journal.finish(MOVES[1], OperationState.FAILED, None)
    assert takers(turns) == [2]


def test_the_next_agent_does_not_begin_more_of_them(journal: Journal) -> None:
    assert takers(Turns(journal, 2, nullcontext)) == [1, 0]
    assert takers(Turns(journal, 2, nullcontext)) == []
    assert takers(Turns(journal, 1, nullcontext)) == []
    assert takers(Turns(journal, 3, nullcontext)) == [2]


def test_one_that_waits_for_the_other_hosts_answer_for_ever_keeps_nobody_waiting(journal: Journal) -> None:
    turns = Turns(journal, 1, nullcontext)
    assert takers(turns) == [0]
    journal.set_step(MOVES[0], HAND_OVER, StepState.INTENDED)
    assert takers(turns) == [1]


def test_one_that_has_not_begun_to_wait_keeps_nobody_waiting(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.add_operation(an_order(MOVES[0]))
    begin(journal, MOVES[1])
    assert takers(Turns(journal, 1, nullcontext)) == [1]
    journal.close()


def test_one_that_is_undone_is_over_only_when_all_of_it_is(journal: Journal) -> None:
    turns = Turns(journal, 1, nullcontext)
    assert takers(turns) == [0]
    journal.set_step(MOVES[0], "check_destination", StepState.UNDONE)
    assert takers(turns) == []


def test_many_that_look_at_once_do_not_all_find_that_it_is_theirs(journal: Journal) -> None:
    turns, taken = Turns(journal, 2, nullcontext), SimpleQueue[str]()
    threads = [threading.Thread(target=lambda one=one: turns.take(one) and taken.put(one)) for one in MOVES * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(taken.get_nowait() for _ in range(taken.qsize())) == MOVES[:2]


def test_one_that_waits_is_given_up_without_a_trace_if_somebody_wishes_so(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    agent = pair.agent = pair.agent_at_source()
    for one in MOVES[:2]:
        begin(agent.journal, one)
        agent.journal.set_step(one, AWAIT_TURN, StepState.DONE)
    admit(agent.node, MOVE)
    agent.node.wishes[MOVE.request_id] = "abort"
    agent.carry_out(MOVE)
    assert agent.journal.operation(MOVE.request_id).state is OperationState.FAILED
    assert pair.source.touches == [] and pair.runners() == [pair.source] and agent.node.wishes == {}
    agent.journal.close()


def test_lanes_that_rest_let_others_move() -> None:
    lanes, gate, seen = Lanes(workers=1), threading.Event(), SimpleQueue[str]()

    def rest() -> None:
        with lanes.resting():
            gate.wait(20)
        seen.put("rested")

    lanes.submit("resting", rest)
    lanes.submit("moving", lambda: seen.put("moved"))
    assert seen.get(timeout=20) == "moved"
    gate.set()
    assert seen.get(timeout=20) == "rested"
    lanes.close(5)
