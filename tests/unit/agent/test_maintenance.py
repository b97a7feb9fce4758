"""A host in maintenance takes no guests, whoever brings them, until it is told to; what it has it looks after."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from compute_agent.agent.admission import admit, check_incoming
from compute_agent.agent.journal import Journal
from compute_agent.agent.request import Request
from compute_agent.errors import HostInMaintenance
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import Mover
from tests.unit.agent.test_crash import live, request_for
from tests.unit.agent.world import FACTS, INSTANCE, UUID, Agent, World, fresh_id

MOVER = Mover(
    instance=with_named_devices(INSTANCE),
    machine=Machine(
        hypervisor="qemu", type="pc-q35-7.2", accelerator="kvm", cpu="host", slots={"disk0": 0, "config": 1, "net0": 2}
    ),
    epoch=0,
    source="node2",
    address="127.0.0.1",
    facts=FACTS,
    mirrored=["disk0"],
)
COMES = Request(
    request_id=fresh_id(),
    operation="pre_live_migration",
    instance_uuid=UUID,
    arguments={"migration": fresh_id(), "mover": msgspec.to_builtins(MOVER)},
)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(World(tmp_path))


def test_neither_new_guests_nor_those_of_other_hosts_are_taken(agent: Agent) -> None:
    agent.journal.set_maintenance(on=True)
    for request in (request_for("boot", {}), COMES):
        with pytest.raises(HostInMaintenance, match="node1"):
            admit(agent.node, request)
    with pytest.raises(HostInMaintenance, match="node1"):
        check_incoming(agent.node, MOVER)
    assert agent.journal.instances() == [] and agent.journal.unfinished() == []
    agent.journal.set_maintenance(on=False)
    live(agent, "boot")


@pytest.mark.parametrize("request_", [request_for("boot", {}), COMES], ids=["boot", "migration"])
def test_one_that_comes_while_maintenance_begins_is_refused(agent: Agent, request_: Request) -> None:
    looks_at = agent.node.network.check

    def begin(ports: object) -> None:
        looks_at({})
        agent.journal.set_maintenance(on=True)

    agent.node.network.check = begin  # type: ignore[method-assign]
    with pytest.raises(HostInMaintenance):
        admit(agent.node, request_)
    assert agent.journal.instances() == []


def test_what_is_there_is_looked_after(agent: Agent) -> None:
    boot = request_for("boot", {})
    assert admit(agent.node, boot)
    agent.carry_out(boot)
    agent.journal.set_maintenance(on=True)
    assert not admit(agent.node, boot), "it was accepted before"
    for operation in ("stop", "start", "terminate"):
        live(agent, operation)
    assert agent.journal.instances() == []


def test_it_lasts_and_tells_since_when(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    journal.set_maintenance(on=True)
    since = journal.maintenance_since()
    journal.set_maintenance(on=True)
    journal.close()
    assert Journal(path).maintenance_since() == since is not None


def test_the_journal_of_an_agent_that_did_not_know_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    old = sqlite3.connect(path)
    later = ["DROP TABLE maintenance", "ALTER TABLE operations DROP details", "ALTER TABLE instances DROP host_boot"]
    old.executescript(";".join([*later, "PRAGMA user_version = 1"]))
    old.close()
    journal = Journal(path)
    assert journal.maintenance_since() is None
    journal.set_maintenance(on=True)
    assert journal.maintenance_since() is not None
