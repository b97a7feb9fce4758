"""Commands that change something: what is sent, waiting, failures and exit statuses."""

from __future__ import annotations

import json

import pytest

from compute_agent import errors
from compute_agent.cli import waiting
from compute_agent.instance.view import Fault, OperationState, StepState
from tests.unit.cli.conftest import REQUEST, WEB1, Shell, Terminal
from tests.unit.cli.fake_client import an_operation

FAILED = an_operation(
    OperationState.FAILED,
    50,
    Fault(type="NetworkError", message="bridge br-x is not there"),
    plug_ports=StepState.UNDONE,
)


@pytest.mark.parametrize(
    ("argv", "operation", "arguments"),
    [
        (["start", "web1"], "start", {}),
        (["stop", "web1"], "stop", {"timeout": None}),
        (["stop", "web1", "--timeout", "2.5"], "stop", {"timeout": 2.5}),
        (["reboot", "web1"], "reboot", {"reboot_type": "SOFT", "timeout": None}),
        (["reboot", "web1", "--hard"], "reboot", {"reboot_type": "HARD", "timeout": None}),
        (["pause", "web1"], "pause", {}),
        (["unpause", "web1"], "unpause", {}),
        (["suspend", "web1"], "suspend", {}),
        (["resume", "web1"], "resume", {}),
        (["terminate", "web1"], "terminate", {}),
    ],
)
def test_what_is_sent(shell: Shell, argv: list[str], operation: str, arguments: dict[str, object]) -> None:
    run = shell(*argv, "--request-id", REQUEST, "-f", "json")
    assert shell.client.requests == [(operation, {"instance_uuid": WEB1, "request_id": REQUEST, **arguments})]
    assert run.status == 0
    assert run.json == {
        "request_id": REQUEST, "operation": operation, "instance_uuid": WEB1, "state": "accepted",
    }  # fmt: skip


def test_each_request_has_an_id_of_its_own(shell: Shell) -> None:
    ids = {shell("pause", "web1", "-f", "value", "-c", "request_id").stdout for _ in range(2)}
    assert len(ids) == 2


def test_waiting_writes_a_line_for_each_change(shell: Shell) -> None:
    running = an_operation(OperationState.RUNNING, 25, plug_ports=StepState.DONE, start_guest=StepState.INTENDED)
    shell.client.story = [
        an_operation(OperationState.ACCEPTED),
        running,
        running,
        an_operation(OperationState.DONE, 100),
    ]
    run = shell("start", "web1", "--wait", "-f", "json")
    assert run.status == 0
    assert run.stderr.splitlines() == ["start   0% accepted", "start  25% start_guest", "start 100% done"]
    assert run.json["state"] == "done"
    assert run.json["seconds"] == pytest.approx(2, abs=0.5)


def test_quiet_waiting_writes_nothing(shell: Shell) -> None:
    assert shell("-q", "start", "web1", "--wait").stderr == ""


def test_waiting_on_a_terminal_draws_a_bar(shell: Shell) -> None:
    shell.client.story = [an_operation(OperationState.RUNNING, 25, start_guest=StepState.INTENDED), FAILED]
    stderr = Terminal()
    run = shell("start", "web1", "--wait", stderr=stderr)
    assert run.status == 1
    assert "\x1b[" in run.stderr
    assert run.stderr.rstrip().splitlines()[-1].startswith("Next: ")


def test_a_failed_operation(shell: Shell) -> None:
    shell.client.story = [FAILED]
    run = shell("start", "web1", "--wait", "-f", "json")
    assert run.status == 1
    assert run.json["fault"]["type"] == "NetworkError"
    assert f"computectl: start of {WEB1} failed: NetworkError: bridge br-x is not there" in run.stderr
    assert run.advice.startswith("on node1: ovs-vsctl show")


def test_a_fault_of_an_unknown_kind(shell: Shell) -> None:
    shell.client.story = [an_operation(OperationState.FAILED, fault=Fault(type="FromTheFuture", message="?"))]
    run = shell("start", "web1", "--wait")
    assert run.status == 1
    assert run.advice == "on node1: journalctl -u compute-agent"


def test_a_refused_request(shell: Shell) -> None:
    shell.client.raises = errors.InvalidState(WEB1, "start", "active", "stopped")
    run = shell("start", WEB1)
    assert run.status == 1
    assert run.stdout == ""
    assert run.stderr.splitlines() == [
        f"computectl: instance {WEB1} is active: start needs it to be stopped",
        f"Next: computectl --host node1 show {WEB1}",
    ]


def test_no_answer_to_a_request(shell: Shell) -> None:
    shell.client.raises = errors.DeadlineExceeded("no answer from host node1 within 10 s")
    run = shell("start", WEB1, "--request-id", REQUEST)
    assert run.status == 3
    assert "may still have been taken" in run.stderr
    assert run.advice == (
        f"computectl --host node1 operation show {REQUEST}; or repeat the command with --request-id {REQUEST}"
    )


def test_no_answer_to_a_question(shell: Shell) -> None:
    shell.client.raises = errors.DeadlineExceeded("no answer from host node1 within 10 s")
    run = shell("list")
    assert run.status == 3
    assert "taken" not in run.stderr
    assert run.advice.startswith("on node1: systemctl status compute-agent")


def test_no_answer_to_the_question_which_instance_is_meant(shell: Shell) -> None:
    shell.client.raises = errors.DeadlineExceeded("no answer from host node1 within 10 s")
    run = shell("start", "web1")
    assert run.status == 3
    assert "taken" not in run.stderr
    assert shell.client.requests == []


def test_ctrl_c_before_a_request_is_answered(shell: Shell) -> None:
    shell.client.raises = KeyboardInterrupt()
    run = shell("start", WEB1, "--request-id", REQUEST)
    assert run.status == 130
    assert "may still have been taken" in run.stderr
    assert run.advice == f"computectl --host node1 operation show {REQUEST}"
    assert shell("start", "web1").stderr == ""


@pytest.mark.parametrize("silence", [errors.DeadlineExceeded("no answer"), errors.HostError("no broker")])
def test_a_restart_of_agent_or_broker_while_somebody_waits(
    shell: Shell, silence: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PAUSE", 0.0)
    shell.client.story = [silence, silence, an_operation(OperationState.DONE, 100)]
    run = shell("start", "web1", "--wait")
    assert run.status == 0
    assert run.stderr.splitlines() == [f"{silence}; asking again", "start 100% done"]


def test_an_agent_that_stays_away_while_somebody_waits(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    shell.client.story = [errors.DeadlineExceeded("no answer")]
    run = shell("start", "web1", "--wait", "--request-id", REQUEST)
    assert run.status == 3
    assert "was accepted and goes on" in run.stderr
    assert run.advice == f"computectl --host node1 operation show {REQUEST}"


def test_ctrl_c_while_waiting(shell: Shell) -> None:
    shell.client.story = [KeyboardInterrupt()]
    run = shell("stop", "web1", "--wait", "--request-id", REQUEST)
    assert run.status == 130
    assert "goes on" in run.stderr
    assert run.advice == f"computectl --host node1 operation show {REQUEST}"


@pytest.mark.parametrize(("answer", "status", "sent"), [("y\n", 0, 1), ("yes\n", 0, 1), ("\n", 1, 0), ("", 1, 0)])
def test_terminate_asks_on_a_terminal(shell: Shell, answer: str, status: int, sent: int) -> None:
    run = shell("terminate", "web1", stdin=Terminal(answer))
    assert (run.status, len(shell.client.requests)) == (status, sent)
    assert f"Terminate web1 ({WEB1}) and delete its disks?" in run.stderr


def test_terminate_yes_does_not_ask(shell: Shell) -> None:
    run = shell("terminate", "web1", "--yes", stdin=Terminal("n\n"))
    assert (run.status, run.stderr) == (0, "")


@pytest.mark.parametrize(
    "argv",
    [
        ["stop"],
        ["stop", "web1", "--timeout", "soon"],
        ["stop", "web1", "--timeout", "-1"],
        ["start", "web1", "--request-id", "1"],
        ["start", "web1", "--sideways"],
        ["operation", "list", "--limit", "0"],
    ],
)
def test_usage_errors(shell: Shell, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert shell(*argv).status == 2
    assert shell.client.requests == []
    assert "usage: computectl" in capsys.readouterr().err


def test_a_defect_of_ours_is_one_line(shell: Shell) -> None:
    shell.client.raises = RuntimeError("never thought of")
    run = shell("list")
    assert run.status == 1
    assert run.stderr == "never thought of\n"


def test_debug_shows_the_traceback(shell: Shell) -> None:
    shell.client.raises = errors.GuestGone("gone")
    assert "Traceback" in shell("--debug", "list").stderr
    assert json.dumps("gone").strip('"') in shell("list").stderr
