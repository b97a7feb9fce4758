"""What is known of the step that is under way, for whoever waits or looks."""

from __future__ import annotations

from typing import Any

import pytest

from compute_agent.cli.progress import progress_display
from compute_agent.cli.step_details import in_words
from compute_agent.instance.view import Accepted, OperationState, StepDetails, StepState
from tests.unit.cli.conftest import REQUEST, WEB1, Shell, Terminal
from tests.unit.cli.fake_client import an_operation

GIB = 2**30
MEMORY = StepDetails(
    stage="memory", percent=40, remaining=int(1.2 * GIB), dirty_rate=4096, expected_downtime=0.3, time_left=12.3
)
DONE = an_operation(OperationState.DONE, 100)


def copying(details: StepDetails | None, progress: int = 35) -> Any:
    return an_operation(OperationState.RUNNING, progress, details=details, copy=StepState.INTENDED)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        (MEMORY, "memory, 1.2 GiB left, about 12 s; stands still for 0.3 s"),
        (StepDetails(stage="disks", remaining=3 * GIB, expected_downtime=0.0), "disks, 3.0 GiB left"),
        (StepDetails(stage="disks", percent=7), "disks, 7%"),
        (StepDetails(stage="disks", time_left=0.2), "disks, about 1 s"),
        (StepDetails(stage="disks", time_left=600.0), "disks, about 10 min"),
        (StepDetails(stage="disks", time_left=9000.0), "disks, about 2 h"),
        (StepDetails(stage="memory", expected_downtime=0.02), "memory; stands still for 0.1 s"),
        (StepDetails(stage="hand_over", waiting_for="node2"), "waits for node2"),
        (StepDetails(stage="turn"), "waits for its turn"),
    ],
)
def test_words(details: StepDetails, words: str) -> None:
    assert in_words(details) == words


def test_a_log_has_a_line_where_the_operation_comes_on(shell: Shell) -> None:
    later = StepDetails(stage="memory", remaining=GIB, time_left=10.0)
    waiting = StepDetails(stage="hand_over", waiting_for="node2")
    shell.client.story = [copying(MEMORY), copying(later), copying(later, 36), copying(waiting, 36), DONE]
    assert shell("migrate", "web1", "node2", "--wait").stderr.splitlines() == [
        "live_migration  35% copy: memory, 1.2 GiB left, about 12 s; stands still for 0.3 s",
        "live_migration  36% copy: memory, 1.0 GiB left, about 10 s",
        "live_migration  36% copy: waits for node2",
        "live_migration 100% done",
    ]


@pytest.mark.parametrize(("columns", "end"), [(80, "; stands still for 0.3 s\n"), (40, "…\n")])
def test_a_terminal_shows_it_below_the_bar(monkeypatch: pytest.MonkeyPatch, columns: int, end: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    accepted = Accepted(
        request_id=REQUEST, instance_uuid=WEB1, operation="live_migration", state=OperationState.ACCEPTED
    )
    with progress_display(stream, quiet=False) as display:
        display.show(copying(MEMORY)(accepted))
    (line,) = {line for line in stream.getvalue().splitlines(keepends=True) if "GiB" in line}
    assert line.startswith("  memory, 1.2 GiB left, about 12 s") and line.endswith(end)


def test_show_tells_it_to_persons_and_machines(shell: Shell) -> None:
    shell("migrate", "web1", "node2", "--request-id", REQUEST)
    shell.client.story = [copying(MEMORY), copying(MEMORY), copying(None)]
    assert "| memory, 1.2 GiB left, about 12 s; stands still for 0.3 s" in shell("operation", "show", REQUEST).stdout
    shown = shell("operation", "show", REQUEST, "-f", "json").json["details"]
    assert (shown["remaining"], shown["time_left"]) == (MEMORY.remaining, 12.3)
    assert shell("operation", "show", REQUEST, "-f", "json").json["details"] is None
