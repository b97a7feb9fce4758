"""An instance that is taken from a host that is dead, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compute_agent.cli.connection import Connection
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, HostError, InstanceExists, MigrationRefused
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import Evacuee
from tests.unit.cli.conftest import REQUEST, WEB1, Shell
from tests.unit.cli.fake_client import FakeClient, an_instance

MACHINE = Machine(hypervisor="qemu", type="pc-q35-7.2", accelerator="kvm", cpu="host", slots={"net0": 1})
VIEW = msgspec.structs.replace(an_instance(WEB1, "web1"), machine=MACHINE, epoch=4)
TO_NODE2 = ("--transport-url", "rabbit://broker.example:5672/", "--host", "node2")


class Silent(FakeClient):
    """Of the host that is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.raises = DeadlineExceeded("agent on node1 gave no answer to get_host in 10 s")


class Hosts(Shell):
    """node1, which is dead, and node2."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: FakeClient = Silent()

    def _connect(self, connection: Connection) -> FakeClient:
        return self.dead if connection.host == "node1" else self.client


@pytest.fixture
def hosts(shell: Shell) -> Hosts:
    return Hosts()


@pytest.fixture
def record(hosts: Hosts, tmp_path: Path) -> Path:
    """What `record` printed while node1 lived."""
    hosts.client.instances = [VIEW]
    path = tmp_path / "web1.json"
    path.write_text(hosts("record", "web1", options=TO_NODE2).stdout)
    return path


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def evacuate(hosts: Hosts, record: Path, *more: str) -> Any:
    return hosts("evacuate", str(record), *(more or ("--dead", "node1")), "--request-id", REQUEST, options=TO_NODE2)


def sent(epoch: int) -> list[tuple[str, dict[str, object]]]:
    evacuee = Evacuee(instance=VIEW.instance, machine=MACHINE, epoch=epoch, source="node1")
    return [("evacuate", {"instance_uuid": WEB1, "evacuee": evacuee, "request_id": REQUEST})]


@pytest.mark.parametrize(("more", "epoch"), [((), 5), (("--dead", "node1", "--epoch", "9"), 9)])
def test_what_was_recorded_is_taken_with_an_epoch_above(
    hosts: Hosts, record: Path, more: tuple[str, ...], epoch: int
) -> None:
    assert evacuate(hosts, record, *more).status == 0
    assert hosts.client.requests == sent(epoch)


def test_a_controller_may_keep_less(hosts: Hosts, record: Path) -> None:
    content = json.loads(record.read_text())
    record.write_text(json.dumps({name: content[name] for name in ("instance", "machine", "epoch", "host")}))
    assert evacuate(hosts, record).status == 0
    assert hosts.client.requests == sent(5)


def test_a_host_that_answers_is_not_dead(hosts: Hosts, record: Path) -> None:
    hosts.dead = FakeClient()
    run = evacuate(hosts, record)
    assert run.status == 1 and hosts.client.requests == []
    assert run.stderr.startswith("computectl: --dead node1: its agent answers")


def test_a_host_that_the_broker_knows_nothing_of_is_silent(hosts: Hosts, record: Path) -> None:
    hosts.dead.raises = HostError("no agent serves host 'node1'")
    assert evacuate(hosts, record).status == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--dead", "node3"), "--dead node3: {path} says that the instance is on node1"),
        (("--dead", "node1", "--epoch", "4"), "--epoch 4: is not above 4, the one in {path}"),
    ],
)
def test_what_cannot_be_meant(hosts: Hosts, record: Path, more: tuple[str, ...], words: str) -> None:
    run = evacuate(hosts, record, *more)
    assert run.status == 2 and hosts.client.requests == []
    assert words.format(path=record) in run.stderr


def test_nobody_is_taken_for_dead_unless_somebody_says_so(hosts: Hosts, record: Path) -> None:
    assert evacuate(hosts, record, "--epoch", "7").status == 2
    assert hosts.client.requests == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": None}, "machine: Expected `object`, got `null` (got None)"),
        ({"epoch": -1}, "epoch: Expected `int` >= 0 (got -1)"),
        ({"instance": {"uuid": "web1"}}, "instance.uuid: "),
        ({"host": "no host"}, "host: "),
    ],
)
def test_a_file_that_does_not_say_enough(hosts: Hosts, record: Path, changes: Mapping[str, object], words: str) -> None:
    change(record, **changes)
    run = evacuate(hosts, record)
    assert run.status == 2 and hosts.client.requests == []
    assert run.stderr.startswith(f"computectl: {record}: {words}")


def test_a_file_that_is_no_json(hosts: Hosts, record: Path) -> None:
    record.write_text("{")
    assert evacuate(hosts, record).status == 2


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (lambda: InstanceExists(WEB1), f"computectl --host node2 show {WEB1}"),
        (lambda: MigrationRefused("disk0", "it exists on node1 only"), "docs/operating.md (A node that is dead)"),
    ],
)
def test_a_refusal_says_where_to_look(
    hosts: Hosts, record: Path, error: Callable[[], ComputeAgentError], advice: str
) -> None:
    hosts.client.raises = error()
    run = evacuate(hosts, record)
    assert run.status == 1
    assert str(error()) in run.stderr and run.advice.startswith(advice)


def test_a_record_has_all_that_the_host_knows(hosts: Hosts, record: Path) -> None:
    assert json.loads(record.read_text()) == msgspec.to_builtins(VIEW)
