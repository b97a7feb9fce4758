"""A host is drained, on the command line: who goes where, what stays and why, and what a run that is repeated does."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from compute_agent.cli import drain
from compute_agent.cli.connection import Connection
from compute_agent.errors import DeadlineExceeded, HostError, InvalidState
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Accepted, Fault, InstanceView, OperationState, OperationView
from tests.unit.cli.conftest import WEB1, WEB2, Shell
from tests.unit.cli.fake_client import an_instance, an_operation

GIB = 1024


@dataclass
class FakeHost:
    """One of several, with the operations that its agent has accepted."""

    host: str
    free: int = 4 * GIB
    maintenance_since: float | None = None
    instances: list[InstanceView] = field(default_factory=list)
    refuses: dict[str, Fault] = field(default_factory=dict)
    """Destinations, and what comes of sending a guest there."""
    operations: dict[str, tuple[Accepted, str]] = field(default_factory=dict)
    silent_for: int = 0
    """How many more calls are not answered, though carried out."""
    looks: int = 0
    """At operations, before the first of them ends."""
    most_at_once: int = 0
    sent: list[tuple[str, str]] = field(default_factory=list)
    ways: dict[str, str] = field(default_factory=dict)
    """By instance: which operation was ordered."""
    refuses_all: Exception | None = None

    def get_host(self) -> dict[str, Any]:
        if self.refuses_all:
            raise self.refuses_all
        used = 8 * GIB - self.free
        return {"memory_mb": 8 * GIB, "memory_mb_used": used, "maintenance_since": self.maintenance_since}

    def host_maintenance_mode(self, mode: bool) -> None:
        self.maintenance_since = time.time() if mode else None

    def list_instances(self) -> list[InstanceView]:
        assert self.maintenance_since is not None, "guests may still come"
        return list(self.instances)

    def list_operations(self, instance_uuid: str, limit: int) -> list[OperationView]:
        found = [one for one, _ in self.operations.values() if one.instance_uuid == instance_uuid]
        return [an_operation(OperationState.RUNNING)(one) for one in found]

    def live_migration(self, instance_uuid: str, dest: str, *, request_id: str) -> Accepted:
        return self._accept("live_migration", instance_uuid, dest, request_id)

    def migrate_instance(self, instance_uuid: str, dest: str, *, request_id: str) -> Accepted:
        return self._accept("migrate", instance_uuid, dest, request_id)

    def _accept(self, operation: str, instance_uuid: str, dest: str, request_id: str) -> Accepted:
        if self.refuses_all:
            raise self.refuses_all
        accepted = Accepted(
            request_id=request_id, instance_uuid=instance_uuid, operation=operation, state=OperationState.ACCEPTED
        )
        if request_id not in self.operations:
            self.sent.append((instance_uuid, dest))
            self.ways[instance_uuid] = operation
        self.operations[request_id] = accepted, dest
        self.most_at_once = max(self.most_at_once, len(self.operations))
        self._answer()
        return accepted

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        self._answer()
        if self.looks:
            self.looks -= 1
            return an_operation(OperationState.RUNNING, 50)(self.operations[request_id][0])
        accepted, dest = self.operations.pop(request_id)
        if dest in self.refuses:
            return an_operation(OperationState.FAILED, fault=self.refuses[dest])(accepted)
        return an_operation(OperationState.DONE, 100)(accepted)

    def _answer(self) -> None:
        if self.silent_for:
            self.silent_for -= 1
            raise DeadlineExceeded("no answer")

    def close(self) -> None: ...


@pytest.fixture
def hosts(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeHost]:
    """node1 has two guests of 512 MiB."""
    hosts = {name: FakeHost(name) for name in ("node1", "node2", "node3")}
    hosts["node1"].instances = [an_instance(WEB1, "web1"), an_instance(WEB2, "web2")]

    def connect(self: Shell, connection: Connection) -> FakeHost:
        return hosts[connection.host]

    monkeypatch.setattr(Shell, "_connect", connect)
    monkeypatch.setattr(drain, "PAUSE", 0.0)
    return hosts


def rows(shell: Shell, *argv: str, status: int = 0) -> list[tuple[str, str | None, str | None]]:
    run = shell("drain", *argv, "-f", "json")
    assert run.status == status, run.stderr
    return [(row["name"], row["moved_to"], row["reason"]) for row in run.json]


def test_guests_go_to_the_emptiest_host_and_nothing_else_comes(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node2"].free = 1280
    hosts["node3"].free = 1024
    went = rows(shell, "--to", "node2", "--to", "node3")
    assert sorted(went) == [("web1", "node2", None), ("web2", "node3", None)]
    assert hosts["node1"].maintenance_since is not None


def test_no_more_are_under_way_than_wished(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].instances = [an_instance(f"00000000-0000-4000-8000-{n:012}", f"g{n}") for n in range(5)]
    hosts["node1"].looks = 10
    assert len(rows(shell, "--to", "node2", "--limit", "3")) == 5
    assert hosts["node1"].most_at_once == 3


def test_one_that_cannot_move_is_named_and_the_others_go(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    paused = msgspec.structs.replace(hosts["node1"].instances[0], vm_state=VmState.PAUSED)
    hosts["node1"].instances[0] = paused
    (web1, web2) = rows(shell, "--to", "node2", status=1)
    assert web2 == ("web2", "node2", None)
    assert web1[:2] == ("web1", None) and "it is paused" in str(web1[2])
    assert "still on node1: web1" in shell("drain", "--to", "node2").stderr


def test_who_is_refused_by_one_host_goes_to_the_next(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node2"].free = 6 * GIB
    hosts["node1"].refuses = {"node2": Fault(type="MigrationRefused", message="cpu features: missing here: avx512f")}
    assert {row[1] for row in rows(shell, "--to", "node2", "--to", "node3")} == {"node3"}
    hosts["node1"].refuses["node3"] = Fault(type="MigrationRefused", message="disks: no")
    for _, dest, reason in rows(shell, "--to", "node2", "--to", "node3", status=1):
        assert (dest, reason) == (None, "node2: cpu features: missing here: avx512f; node3: disks: no")


def test_hosts_without_room_and_hosts_that_take_nobody(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node2"].free, hosts["node3"].maintenance_since = 600, 1.0
    went = {name: (dest, reason) for name, dest, reason in rows(shell, "--to", "node2", "--to", "node3", status=1)}
    assert went["web1"] == ("node2", None)
    assert "node2 has 88 MiB left; node3: it is in maintenance" in str(went["web2"][1])
    hosts["node2"].refuses_all = HostError("no agent ever served it")
    assert "node2: no agent ever served it" in str(rows(shell, "--to", "node2", status=1)[0][2])


def test_what_is_under_way_is_waited_for_and_not_ordered_again(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].live_migration(WEB1, "node3", request_id="earlier")
    assert sorted(rows(shell, "--to", "node2")) == [("web1", None, None), ("web2", "node2", None)]
    assert hosts["node1"].sent == [(WEB1, "node3"), (WEB2, "node2")]


def test_an_agent_that_is_away_for_a_while_is_asked_again(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].silent_for = 3
    assert len(rows(shell, "--to", "node2")) == 2
    assert len(hosts["node1"].sent) == 2, "a guest was ordered twice"


def test_an_agent_that_stays_away_ends_it_as_unknown(
    shell: Shell, hosts: dict[str, FakeHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "PATIENCE", -1.0)
    hosts["node1"].silent_for = 1000
    assert shell("drain", "--to", "node2").status == 3


def test_a_guest_that_may_not_move_now(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].refuses_all = InvalidState(WEB1, "live_migration", "stopped", "active")
    assert {row[1] for row in rows(shell, "--to", "node2", status=1)} == {None}


def test_one_that_is_stopped_goes_with_its_disks(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].instances[1] = msgspec.structs.replace(hosts["node1"].instances[1], vm_state=VmState.STOPPED)
    assert {row[1] for row in rows(shell, "--to", "node2")} == {"node2"}
    assert hosts["node1"].ways == {WEB1: "live_migration", WEB2: "migrate"}


def test_progress_is_told_a_line_for_each_change(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    assert "web1 to node2 100% done" in shell("drain", "--to", "node2").stderr
    assert shell("-q", "drain", "--to", "node2").stderr == ""


def test_it_takes_guests_again(shell: Shell, hosts: dict[str, FakeHost]) -> None:
    hosts["node1"].maintenance_since = 1.0
    assert rows(shell, "--undo") == []
    assert hosts["node1"].maintenance_since is None and hosts["node1"].sent == []


@pytest.mark.parametrize("argv", [("--to", "node1"), ("--undo", "--to", "node2"), ("--limit", "0")])
def test_what_cannot_be_meant(shell: Shell, hosts: dict[str, FakeHost], argv: tuple[str, ...]) -> None:
    assert shell("drain", *argv).status == 2
    assert hosts["node1"].maintenance_since is None
