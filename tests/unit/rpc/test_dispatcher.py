"""Calls as they come from the queue, good and bad."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from compute_agent.errors import ComputeAgentError, InstanceNotFound, InvalidMessage
from compute_agent.rpc.dispatcher import Dispatcher, Refusal
from tests.unit.rpc.agent import RememberingAgent

UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def agent() -> RememberingAgent:
    return RememberingAgent()


def dispatch(agent: RememberingAgent, **call: Any) -> Any:
    message = {"version": "1.0", "args": {}} | call
    return Dispatcher(agent).dispatch(SimpleNamespace(message=message))


def refusal(agent: RememberingAgent, **call: Any) -> ComputeAgentError:
    with pytest.raises(Refusal) as caught:
        dispatch(agent, **call)
    kind, error, traceback = caught.value.exc_info
    assert type(error) is kind
    assert traceback is None
    assert error.__cause__ is error.__context__ is None
    return error


def test_a_question(agent: RememberingAgent) -> None:
    assert dispatch(agent, method="get_host") == {"host": "node1"}
    assert dispatch(agent, method="get_console_output", args={"instance_uuid": UUID, "length": 3}) == "xxx"


def test_a_change_becomes_a_request(agent: RememberingAgent) -> None:
    arguments = {"request_id": UUID, "instance_uuid": UUID, "timeout": 5}
    answer = dispatch(agent, method="stop_instance", args=arguments)
    assert answer == {"request_id": UUID, "instance_uuid": UUID, "operation": "stop", "state": "accepted"}
    (request,) = agent.requests
    assert (request.operation, request.arguments, request.instance) == ("stop", {"timeout": 5.0}, None)


def test_a_boot_carries_its_instance(agent: RememberingAgent) -> None:
    instance = {"uuid": UUID, "name": "web", "flavor": {"vcpus": 1, "memory_mb": 64}}
    dispatch(agent, method="build_and_run_instance", args={"request_id": UUID, "instance": instance})
    (request,) = agent.requests
    assert (request.operation, request.instance_uuid, request.arguments) == ("boot", UUID, {})
    assert request.instance is not None
    assert request.instance.name == "web"


@pytest.mark.parametrize("version", ["2.0", "1.1", None, [1], 1.0])
def test_a_wrong_version(agent: RememberingAgent, version: object) -> None:
    error = refusal(agent, method="get_host", version=version)
    assert isinstance(error, InvalidMessage)
    assert error.field == "version"


@pytest.mark.parametrize("verb", ["make_coffee", "submit", "_api", "answer", "__class__", 5, None, ["get_host"], {}])
def test_an_unknown_verb(agent: RememberingAgent, verb: object) -> None:
    error = refusal(agent, method=verb)
    assert isinstance(error, InvalidMessage)
    assert error.field == "method"


@pytest.mark.parametrize("verb", ["\nERROR forged", "\ud800", "x" * 100_000])
def test_a_verb_is_no_line_of_the_log(agent: RememberingAgent, caplog: pytest.LogCaptureFixture, verb: str) -> None:
    with caplog.at_level(logging.INFO):
        error = refusal(agent, method=verb)
    assert len(str(error).encode()) < 300
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert caplog.records


def test_a_version_that_cannot_even_be_shown(agent: RememberingAgent) -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    assert str(refusal(agent, method="get_host", version=nested)).startswith("version: ")


@pytest.mark.parametrize("arguments", [[1], "text", 5, None])
def test_arguments_that_are_no_object(agent: RememberingAgent, arguments: object) -> None:
    assert refusal(agent, method="get_host", args=arguments).args[0] == "args"


def test_what_the_agent_refuses_with(agent: RememberingAgent) -> None:
    error = refusal(agent, method="get_instance", args={"instance_uuid": UUID})
    assert type(error) is InstanceNotFound
    assert error.args == (UUID,)


def test_a_mistake_is_logged_and_not_told(agent: RememberingAgent, caplog: pytest.LogCaptureFixture) -> None:
    error = refusal(agent, method="get_diagnostics", args={"instance_uuid": UUID})
    assert type(error) is ComputeAgentError
    assert str(error) == "internal error of the agent: ZeroDivisionError"
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
