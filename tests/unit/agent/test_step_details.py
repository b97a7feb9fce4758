"""What is known of the step that is under way: kept with the operation as long as that lasts, and told."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from compute_agent.agent import execution
from compute_agent.agent.operations import leaving, live_migration
from compute_agent.instance.view import StepDetails
from tests.unit.agent.test_live_migration import MOVE, Pair
from tests.unit.agent.test_migrate import Stopped

HALF = StepDetails(stage="memory", percent=90, remaining=0, dirty_rate=0, expected_downtime=0.0)
HANDS_OVER = "before ask post_live_migration_at_destination"


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr(execution, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(live_migration, "dial", lambda *where: socket.socket())
    monkeypatch.setattr(leaving, "dial", lambda *where: socket.socket())
    monkeypatch.setattr(leaving, "sealed", lambda connection, *credentials: connection)


def details(pair: Pair) -> StepDetails | None:
    return pair.agent.journal.operation(pair.order.request_id).view().details


def seen(pair: Pair, moment: str) -> list[StepDetails | None]:
    """What is known each time that the source comes to this moment."""
    found: list[StepDetails | None] = []
    pair.source.on_moment = {**pair.source.on_moment, moment: lambda: found.append(details(pair))}
    return found


def test_it_is_known_while_the_step_lasts(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    moments = ("before copy most of it", "before send", "before kill")
    found = {moment: seen(pair, moment) for moment in moments}
    pair.move()
    assert [found[moment][-1] for moment in moments] == [None, HALF, None]
    told = [one.payload["result"] for _, one in pair.agent_at_source().journal.waiting_notifications(100)]
    assert msgspec.to_builtins(HALF) in told


def test_the_next_agent_knows_it_until_it_has_looked_itself(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    found = seen(pair, "before send")
    pair.source.kill_at = len(_touches(tmp_path / "whole", "before send"))
    pair.move()
    assert found == [HALF, HALF]
    agent = pair.agent_at_source()
    assert agent.journal.operation(MOVE.request_id).view().details is None


def test_who_is_waited_for_is_known_while_he_is_asked_again(tmp_path: Path) -> None:
    asked = [touch for touch in _touches(tmp_path / "whole", HANDS_OVER) if touch.startswith("before ask")]
    pair = Pair(tmp_path / "pair")
    pair.lost = len(asked)
    found = seen(pair, HANDS_OVER)
    pair.move()
    assert found == [None, StepDetails(stage="hand_over", waiting_for="node2")]
    assert pair.agent_at_source().journal.operation(MOVE.request_id).view().details is None


def test_the_disks_of_one_that_is_stopped(tmp_path: Path) -> None:
    pair = Stopped(tmp_path)
    found = seen(pair, "before send files")
    pair.move()
    (half,) = found
    assert half is not None and (half.stage, half.percent) == ("disks", 50)
    assert half.time_left == pytest.approx(0.0, abs=1.0), "as long again"


def _touches(directory: Path, moment: str) -> list[str]:
    """All that happens at the source until that moment, in a migration that goes well."""
    whole = Pair(directory)
    whole.move()
    return whole.source.touches[: whole.source.touches.index(moment) + 1]
