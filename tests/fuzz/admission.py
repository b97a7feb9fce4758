"""Messages in the order that somebody hostile chooses, to an agent over fakes: what it refuses changes nothing."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

import msgspec

from compute_agent.agent import execution
from compute_agent.agent.admission import admit, check_incoming
from compute_agent.agent.gates import open_gate
from compute_agent.agent.journal.rows import answer_to
from compute_agent.agent.peers import Peer
from compute_agent.agent.request import Request
from compute_agent.errors import ComputeAgentError, MigrationRefused
from compute_agent.instance.model import Instance
from compute_agent.instance.port_checks import check_ports
from compute_agent.instance.view import Accepted, OperationState
from compute_agent.rpc.dispatcher import Dispatcher, Refusal
from compute_agent.rpc.messages import RPC_VERSION, VERBS, Change
from compute_agent.storage.checks import check_device
from tests.fuzz.generation import value_of
from tests.fuzz.mutation import spoil_json
from tests.fuzz.target import Case, Check, Target
from tests.unit.agent.world import FACTS, INSTANCE, UUID, Agent, FakeStorage, World

_MOST = 8
"""Messages of a case."""
_VERBS = [verb for verb, message in VERBS.items() if issubclass(message, Change)]
_TABLES = ("instances", "operations", "steps", "outbox")
_QUESTIONS = ["check_can_live_migrate_destination", "get_incoming"]


class Door:
    """Keeps as much of `compute_agent.rpc.api.Api` as changes something, and carries it out at once."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def submit(self, request: Request) -> Accepted:
        if admit(self.agent.node, request):
            self.agent.carry_out(request)
        return answer_to(request)

    def check_can_live_migrate_destination(self, mover: Any) -> None:
        check_incoming(self.agent.node, mover)

    def get_incoming(self, instance_uuid: str, migration: str) -> Any:
        return open_gate(self.agent.node, instance_uuid, migration)


def nobody(host: str) -> Peer:
    """No other host takes a guest."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise MigrationRefused(host, "is not there")

    return SimpleNamespace(  # type: ignore[return-value]
        check_can_live_migrate_destination=refuse, get_operation=refuse, rollback_live_migration_at_destination=refuse
    )


@contextmanager
def _open() -> Iterator[Check]:
    with (
        mock.patch.multiple(execution, SHORTEST_PAUSE=0.0, LONGEST_PAUSE=0.0),
        mock.patch.object(FakeStorage, "check", _check_disks),
    ):

        def check(case: Case) -> None:
            with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="fuzz-") as directory:
                world = World(Path(directory))
                agent = Agent(world, nobody)
                with closing(agent.journal), closing(sqlite3.connect(Path(directory) / "journal.sqlite")) as journal:
                    _talk(case, agent, lambda: [*_content(journal), len(world.touches)])

        yield check


def _check_disks(storage: FakeStorage, instance: Instance) -> None:
    """What `compute_agent.storage.checks.check_instance` finds, but for what the fakes' instance has not."""
    for index, device in enumerate(instance.block_devices):
        check_device(f"instance.block_devices[{index}]", device)
    check_ports(instance.ports)


def _talk(case: Case, agent: Agent, what_is: Callable[[], list[object]]) -> None:
    dispatcher = Dispatcher(Door(agent))  # type: ignore[arg-type]
    for _ in range(case.random.randint(1, _MOST)):
        call = _a_call(case.random)
        case.show(call)
        before = what_is()
        try:
            dispatcher.dispatch(SimpleNamespace(message=call))
        except Refusal as refusal:
            error = refusal.exc_info[1]
            assert isinstance(error, ComputeAgentError) and type(error) is not ComputeAgentError, repr(error)
            assert what_is() == before, "a refusal has changed something"
    for operation in agent.journal.operations(None, 100):
        assert operation.state in (OperationState.DONE, OperationState.FAILED)
        assert operation.fault is None or operation.fault.type != "ComputeAgentError", operation.fault
    agent.journal.instances()


def _a_call(random: Random) -> dict[str, Any]:
    verb = random.choice(("build_and_run_instance", *_VERBS, *_QUESTIONS))
    arguments = value_of(random, VERBS[verb])
    if "instance_uuid" in arguments and random.random() < 0.9:
        arguments["instance_uuid"] = UUID
    if verb == "build_and_run_instance" and random.random() < 0.8:
        arguments["instance"] = msgspec.to_builtins(INSTANCE)
    if "mover" in arguments:
        _make_likely(random, arguments["mover"])
    if random.random() < 0.3:
        spoil_json(random, arguments)
    return {"version": RPC_VERSION, "method": verb, "args": arguments}


def _make_likely(random: Random, mover: dict[str, Any]) -> None:
    if random.random() < 0.8:
        mover["instance"] = msgspec.to_builtins(INSTANCE)
    if random.random() < 0.8:
        mover["facts"], mover["mirrored"] = msgspec.to_builtins(FACTS), ["None"]


def _content(journal: sqlite3.Connection) -> list[object]:
    """All of it."""
    return [journal.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES]


TARGET = Target(name="admission", open=_open, weight=0.4, deadline=10.0)
