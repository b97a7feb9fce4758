"""What a guest of another host comes in by, on this machine's own sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue

import msgspec
import pytest

from compute_agent.agent.gates import open_gate
from compute_agent.errors import DeadlineExceeded, HostError, MigrationRefused
from compute_agent.host.encryption import sealed
from compute_agent.host.listening import dial, listen_on, resolve
from compute_agent.instance.migration import Incoming
from compute_agent.instance.model import Instance
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import PowerState, VmState
from tests.unit.agent.moving import FakeServedMoves
from tests.unit.agent.world import INSTANCE, UUID, Agent, World

MIGRATION = "00000000-0000-4000-8000-0000000000e1"


@dataclass
class Waiting:
    """In place of a guest's process: what came in."""

    instance_uuid: str = UUID
    disks: list[str] = field(default_factory=list)
    memory: Queue[bytes] = field(default_factory=Queue)
    key: str | None = None

    @property
    def incoming(self) -> Waiting:
        return self

    def use_key(self, key: str | None) -> None:
        self.key = key

    def let_disks_in(self, listener: int, disks: list[str]) -> None:
        self.disks += disks

    def let_memory_in(self, connection: int) -> None:
        with socket.socket(fileno=socket.dup(connection)) as own:
            self.memory.put(own.recv(100))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    yield from _agent(World(tmp_path))


def _agent(world: World) -> Iterator[Agent]:
    agent = Agent(world)
    incoming = Incoming(migration=MIGRATION, source="node0", address="127.0.0.1", mirrored=["disk0"])
    agent.journal.add_instance(InstanceRecord(instance=INSTANCE, incoming=incoming), VmState.INCOMING)
    world.guests[UUID] = PowerState.PAUSED
    yield agent
    agent.journal.close()


@pytest.fixture
def own_agent(tmp_path: Path) -> Iterator[Agent]:
    """Of a machine of our own."""
    yield from _agent(World(tmp_path, hypervisor="vmm"))


@pytest.fixture
def waiting(agent: Agent) -> Waiting:
    waiting = Waiting()
    agent.node.guests[UUID] = waiting  # type: ignore[assignment]
    return waiting


def test_disks_that_a_block_server_has_open_come_in_there(own_agent: Agent) -> None:
    waiting = Waiting()
    own_agent.node.guests[UUID] = waiting  # type: ignore[assignment]
    gate = open_gate(own_agent.node, UUID, MIGRATION)
    served = own_agent.node.storage.moves.served(UUID)
    assert isinstance(served, FakeServedMoves)
    assert (gate.disks_port, served.let_in_with) == (own_agent.node.settings.migration.first_port, gate.key)
    assert waiting.disks == []


def test_memory_comes_in_from_its_source_only_and_once(agent: Agent, waiting: Waiting) -> None:
    gate = open_gate(agent.node, UUID, MIGRATION)
    assert waiting.disks == ["disk0"] and gate.disks_port is not None
    assert gate.key is not None and waiting.key == gate.key
    with socket.create_connection((gate.address, gate.memory_port), source_address=("127.0.0.2", 0)) as stranger:
        stranger.settimeout(10)
        assert stranger.recv(1) == b"", "it is hung up on"
    with dial(gate.address, gate.memory_port, "127.0.0.1", 10) as source:
        source.sendall(b"memory")
        assert waiting.memory.get(timeout=10) == b"memory"
        assert source.recv(1) == b""
    with pytest.raises(HostError, match="cannot be reached"):
        dial(gate.address, gate.memory_port, "127.0.0.1", 10)


def test_the_disks_of_one_that_is_stopped_come_in_over_one_connection(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = agent.journal.instance(UUID)
    assert row.record.incoming is not None
    stopped = msgspec.structs.replace(row.record.incoming, is_stopped=True)
    agent.journal.set_record(msgspec.structs.replace(row.record, incoming=stopped))
    came: Queue[bytes] = Queue()

    def receive(instance: Instance, disks: list[str], connection: socket.socket) -> None:
        assert (instance.uuid, disks) == (UUID, ["disk0"])
        came.put(connection.recv(100))

    monkeypatch.setattr(agent.node.storage.moves.files, "receive", receive)
    gate = open_gate(agent.node, UUID, MIGRATION)
    assert gate.memory_port is None and gate.disks_port is not None
    connection = dial(gate.address, gate.disks_port, "127.0.0.1", 10)
    with sealed(connection, gate.certificate, gate.key) as source:
        source.sendall(b"disks")
        assert came.get(timeout=10) == b"disks"


def test_a_gate_is_opened_to_its_own_migration_only(agent: Agent, waiting: Waiting) -> None:
    with pytest.raises(MigrationRefused, match="another one"):
        open_gate(agent.node, UUID, UUID)
    assert waiting.disks == []


def test_ports_may_run_out() -> None:
    with listen_on("127.0.0.1", 1024, 65535) as one:
        port = one.getsockname()[1]
        with pytest.raises(HostError, match="no port"):
            listen_on("127.0.0.1", port, port)


def test_an_address_of_another_host_or_of_none_is_an_error() -> None:
    with pytest.raises(HostError, match="nothing can listen on"):
        listen_on("192.0.2.1", 50000, 50000)
    with pytest.raises(HostError, match="has no address"):
        resolve("no-such-host.invalid")


def test_who_does_not_answer_is_not_waited_for() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]
        for one in others:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with pytest.raises(DeadlineExceeded):
            dial(*full.getsockname(), "127.0.0.1", 0.1)
        for one in others:
            one.close()
