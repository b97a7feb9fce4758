"""What waits for the host's disk, and how often: it is most of what the agent adds to a short operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from compute_agent.instance.state import PowerState
from compute_agent.instance.view import Notification
from tests.unit.agent.test_crash import FAILURES, KILLABLE, a_life_until, live
from tests.unit.agent.world import Agent, FakeGuest, World

DURABLE, QUICK = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"


@contextmanager
def commits(agent: Agent) -> Iterator[list[str]]:
    """How durable each commit was."""
    said: list[str] = []
    found: list[str] = []
    connection = agent.journal._database._connection
    connection.set_trace_callback(said.append)
    yield found
    connection.set_trace_callback(None)
    found += [one for one, following in pairwise(said) if following.startswith("BEGIN")]


def test_the_end_of_a_step_is_noted_with_the_beginning_of_the_next(tmp_path: Path) -> None:
    agent = Agent(World(tmp_path))
    live(agent, "boot")
    with commits(agent) as attached:
        live(agent, "attach_volume")
    with commits(agent) as detached:
        live(agent, "detach_volume")
    # It is accepted, three steps begin, the record changes in one of them, the end.
    assert attached == detached == [DURABLE] * 6


def test_only_what_may_happen_twice_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    agent = Agent(World(tmp_path))
    agent.journal.add_notification(Notification(event_type="event", payload={}))
    ((sequence, told),) = agent.journal.waiting_notifications(10)
    with commits(agent) as made:
        agent.journal.remove_notification(sequence)
        agent.journal.add_notification(told)
    assert made == [QUICK, DURABLE]


@pytest.mark.parametrize(
    ("operation", "refused"), [*((name, None) for name in KILLABLE), *((one[0], one[1]) for one in FAILURES)]
)
def test_nobody_waits_for_the_journal_while_a_guest_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, refused: str | None
) -> None:
    """It may take a while to answer, and each operation of another guest needs the journal meanwhile."""
    world = a_life_until(tmp_path, operation)
    world.fail_at = refused
    agent, ask = Agent(world), FakeGuest.status

    def status(guest: FakeGuest, seconds: float | None = None) -> PowerState:
        assert not agent.journal._database._connection.in_transaction
        return ask(guest, seconds)

    monkeypatch.setattr(FakeGuest, "status", status)
    live(agent, operation)
    last = agent.journal.operations(None, 1)[0]
    assert last.fault is None or "was told to fail" in last.fault.message
