"""Calls as anybody may send them: each verb with good and spoiled arguments, up to the agent's door."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from compute_agent.agent.request import Request
from compute_agent.errors import ComputeAgentError, InvalidInput, InvalidMessage
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.rpc.decode import decode
from compute_agent.rpc.dispatcher import Dispatcher, Refusal, request_of
from compute_agent.rpc.messages import RPC_VERSION, VERBS, Change
from compute_agent.rpc.messages.instances import BuildAndRunInstance
from compute_agent.storage.checks import check_instance
from tests.fuzz.generation import value_of
from tests.fuzz.mutation import TEXTS, any_value, spoil_json
from tests.fuzz.target import Case, Check, Target

_SPOILED = 0.7
_OF_THE_ENVELOPE = 0.05
_LONGEST_LINE = 1000


class Deaf:
    """Keeps `compute_agent.rpc.api.Api`: takes everything, does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **names: None


def a_call(random: Random) -> dict[str, Any]:
    """A message as oslo.messaging hands it over."""
    verb = random.choice(list(VERBS))
    arguments = value_of(random, VERBS[verb])
    if random.random() < _SPOILED:
        spoil_json(random, arguments)
    call = {"version": RPC_VERSION, "method": verb, "args": arguments}
    if random.random() < _OF_THE_ENVELOPE:
        call[random.choice(list(call))] = random.choice((*TEXTS, any_value(random)))
    return call


@contextmanager
def _open() -> Iterator[Check]:
    with said_in_lines() as lines:
        dispatcher = Dispatcher(Deaf())  # type: ignore[arg-type]

        def check(case: Case) -> None:
            call = a_call(case.random)
            case.show(call)
            lines.clear()
            try:
                dispatcher.dispatch(SimpleNamespace(message=call))
            except Refusal as refusal:
                require_clear(refusal.exc_info[1])
            else:
                _require_kept(call)
            require_lines(lines)

        yield check


def require_clear(error: Exception) -> None:
    """A refusal is one of ours, of one line, names a field, and can be sent."""
    assert isinstance(error, InvalidMessage), f"{error!r} is not for a bad message"
    assert error.field and len(error.field) < _LONGEST_LINE, error.field[:100]
    assert str(error).isprintable() and len(str(error)) < 2 * _LONGEST_LINE, repr(str(error))
    type(error)(*msgspec.json.decode(msgspec.json.encode(error.args)))


def _require_kept(call: dict[str, Any]) -> None:
    """What was taken means what was sent, after the journal too."""
    message = decode(call["method"], call["args"])
    assert decode(call["method"], msgspec.to_builtins(message)) == message
    if isinstance(message, Change):
        request = request_of(call["method"], message)
        again = msgspec.json.decode(msgspec.json.encode(request), type=Request)
        assert (again.instance, again.digest()) == (request.instance, request.digest())
    if isinstance(message, BuildAndRunInstance):
        _check_order(message)


def _check_order(message: BuildAndRunInstance) -> None:
    try:
        check_instance(message.instance)
        read_extra_specs(message.instance.flavor.extra_specs)
    except InvalidInput as error:
        require_clear(error)
    except ComputeAgentError as error:
        raise AssertionError(f"{error!r} names no field") from error


@contextmanager
def said_in_lines() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("compute_agent")
    former = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former[0])
        logger.propagate = former[1]


def require_lines(lines: list[str]) -> None:
    """Nobody who sends a message can write a line of the log."""
    for line in lines:
        assert line.isprintable(), f"logged: {line[:200]!r}"
        assert len(line) < 3 * _LONGEST_LINE, f"a line of {len(line)} characters"


TARGET = Target(name="messages", open=_open, weight=22)
