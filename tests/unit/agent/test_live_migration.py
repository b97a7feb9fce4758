"""Two agents and a guest that moves: whatever dies or is lost at whatever moment, exactly one of them may run it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import pytest

from compute_agent.agent import execution
from compute_agent.agent.admission import admit, check_incoming
from compute_agent.agent.arrivals import awaits_files, is_given_up, require_incoming, rest_of
from compute_agent.agent.journal.rows import answer_to
from compute_agent.agent.operations import leaving, live_migration
from compute_agent.agent.request import Request
from compute_agent.errors import ComputeAgentError, DeadlineExceeded, InvalidMessage, InvalidState, MigrationRefused
from compute_agent.instance.block_device import Encryption
from compute_agent.instance.migration import Gate, Mover
from compute_agent.instance.model import PortDetails
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import Accepted, OperationState, OperationView
from tests.unit.agent.moving import SharedDisk
from tests.unit.agent.test_crash import COPY_ID, RUNNING, live, request_for
from tests.unit.agent.world import PORT_ID, UUID, Agent, Killed, World, fresh_id

T = TypeVar("T")
MOVE = Request(request_id=fresh_id(), operation="live_migration", instance_uuid=UUID, arguments={"dest": "node2"})


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(live_migration, "_LOOK_AGAIN", 0.0)
    for module in (live_migration, leaving):
        monkeypatch.setattr(module, "dial", lambda *where: socket.socket())
    monkeypatch.setattr(leaving, "sealed", lambda connection, *credentials: connection)


class Waits(BaseException):
    """An agent has nothing to do until the other host does something; its operation stays unfinished."""


class Pair:
    """Two hosts, the guest on the first."""

    order = MOVE
    before: tuple[str, ...] = ("boot",)
    """What the instance has been through."""
    running = True
    """It does, wherever it is in the end."""
    hypervisor: Literal["qemu", "vmm"] = "qemu"
    encrypted = False
    """Its disk is."""
    source_encrypts = dest_encrypts = True
    """What is carried."""

    @property
    def layers(self) -> set[str]:
        """Of its disk."""
        return {COPY_ID} if "volume_snapshot_create" in self.before else set()

    def __init__(self, directory: Path) -> None:
        self.shared = SharedDisk()
        self.source, self.dest = (World(directory / name, hypervisor=self.hypervisor) for name in ("source", "dest"))
        for world in (self.source, self.dest):
            world.directory.mkdir(parents=True)
            world.moving.shared = self.shared
        self.source.moving.other, self.dest.moving.other = self.dest, self.source
        agent = self.agent_at_source()
        for operation in self.before:
            live(agent, operation)
        if self.encrypted:
            _encrypt_disk(agent)
        agent.journal.close()
        for world in (self.source, self.dest):
            world.touches.clear()
            world.watcher = self.assert_never_both
        self.lost: int | None = None
        """The number of the answer that does not arrive."""
        self.asked = 0

    def agent_at_source(self) -> Agent:
        agent = Agent(self.source, lambda host: Destination(self), "node1")
        return _encrypting(agent, on=self.source_encrypts)

    def agent_at_dest(self) -> Agent:
        return _encrypting(Agent(self.dest, lambda host: Source(self), "node2"), on=self.dest_encrypts)

    def assert_never_both(self) -> None:
        assert len(self.runners()) <= 1, "it runs twice"

    def runners(self) -> list[World]:
        return [one for one in (self.source, self.dest) if one.guests.get(UUID) is PowerState.RUNNING]

    def move(self) -> None:
        """From the order to its end, with a new agent for each that dies."""
        if not self._survives(lambda agent: admit(agent.node, self.order) and agent.carry_out(self.order)):
            self._revive_source()
        self._settle()

    def _survives(self, life: Callable[[Agent], object]) -> bool:
        self.agent = agent = self.agent_at_source()
        try:
            life(agent)
        except Killed:
            return False
        finally:
            agent.journal.close()
        return True

    def _revive_source(self) -> None:
        self.source.kill_at = None
        assert self._survives(Agent.recover)

    def _settle(self) -> None:
        """What the agent at the destination does by itself, sooner or later."""
        self.dest.kill_at = None
        agent = self.agent_at_dest()
        agent.recover()
        row = agent.journal.find_instance(UUID)
        if row is not None and row.record.incoming is not None and is_given_up(agent.node, row.record.incoming):
            over = Request(
                request_id=fresh_id(),
                operation="rollback_live_migration_at_destination",
                instance_uuid=UUID,
                arguments={"migration": self.order.request_id},
            )
            assert admit(agent.node, over)
            agent.carry_out(over)
        agent.journal.close()

    def outcome(self) -> OperationState:
        agent = self.agent_at_source()
        state = agent.journal.operation(self.order.request_id).state
        agent.journal.close()
        return state

    def assert_one(self) -> None:
        """It runs where the journals say, and the other host has nothing of it."""
        state = self.outcome()
        owner, other = (self.dest, self.source) if state is OperationState.DONE else (self.source, self.dest)
        assert state in (OperationState.DONE, OperationState.FAILED)
        assert self.runners() == ([owner] if self.running else [])
        has = (RUNNING if self.running else ["disk"]) + (["layer"] if self.layers else [])
        assert (owner.left_of(UUID), other.left_of(UUID)) == (has, [])
        assert owner.layering.files == self.layers
        assert (self.shared.owner, self.shared.is_removed) == (owner, False)
        assert self.shared.noted is (owner if self.running else None)
        for world, vm_state in ((owner, VmState.ACTIVE if self.running else VmState.STOPPED), (other, None)):
            agent = Agent(world)
            row = agent.journal.find_instance(UUID)
            assert (row.vm_state if row else None) == vm_state
            assert row is None or (row.record.incoming, row.record.epoch) == (None, int(owner is self.dest))
            assert agent.journal.unfinished() == []
            agent.journal.close()


class LayeredPair(Pair):
    """A machine of our own, whose block servers carry its disk; what it writes is in a file above one that it reads."""

    hypervisor = "vmm"
    before = ("boot", "volume_snapshot_create")


class EncryptedPair(Pair):
    encrypted = True


def _encrypt_disk(agent: Agent) -> None:
    record = agent.journal.instance(UUID).record
    (device,) = record.instance.block_devices
    encrypted = msgspec.structs.replace(device, encryption=Encryption(secret_uuid=fresh_id()))
    instance = msgspec.structs.replace(record.instance, block_devices=[encrypted])
    agent.journal.set_record(msgspec.structs.replace(record, instance=instance))


def _encrypting(agent: Agent, *, on: bool) -> Agent:
    settings = agent.node.settings
    settings = replace(settings, migration=replace(settings.migration, encrypt=on))
    agent.node = replace(agent.node, settings=settings)
    return agent


KINDS = pytest.mark.parametrize("kind", [Pair, LayeredPair])


class Destination:
    """The agent there, as the one at the source reaches it: it may die, and answers may be lost."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def check_can_live_migrate_destination(self, mover: Mover) -> None:
        self._ask("check", lambda agent: check_incoming(agent.node, mover))

    def pre_live_migration(
        self, instance_uuid: str, migration: str, mover: Mover, request_id: str | None = None
    ) -> Accepted:
        arguments = {"migration": migration, "mover": msgspec.to_builtins(mover)}
        return self._change("pre_live_migration", arguments, request_id)

    def get_incoming(self, instance_uuid: str, migration: str) -> Gate:
        def let_in(agent: Agent) -> Gate:
            instance = agent.journal.instance(instance_uuid).record.instance
            if agent.journal.instance(instance_uuid).record.incoming is None:
                rest_of(agent.node, instance_uuid, migration)
                agent.node.guest(instance_uuid).incoming.take_connection(0)
                return Gate(address="127.0.0.1", memory_port=1, key="ab" * 32)
            incoming = require_incoming(agent.node, instance_uuid, migration)
            if incoming.is_stopped or awaits_files(agent.node, instance, incoming):
                return Gate(address="127.0.0.1", disks_port=2, key="ab" * 32)
            served, guest = agent.node.storage.moves.served(instance_uuid), agent.node.guest(instance_uuid)
            if served is not None:
                served.let_in(["disk0"], "127.0.0.1", range(2, 3), "ab" * 32)
            else:
                guest.incoming.let_disks_in(0, ["disk0"])
            guest.incoming.let_memory_in(0)
            key = "ab" * 32 if self._pair.dest_encrypts else None
            return Gate(address="127.0.0.1", memory_port=1, disks_port=2, key=key)

        return self._ask("get_incoming", let_in)

    def start_at_destination(self, instance_uuid: str, migration: str, request_id: str | None = None) -> Accepted:
        return self._change("start_at_destination", {"migration": migration}, request_id)

    def post_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted:
        return self._change("post_live_migration_at_destination", {"migration": migration}, request_id)

    def rollback_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted:
        return self._change("rollback_live_migration_at_destination", {"migration": migration}, request_id)

    def start_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        return self._change("start", {}, request_id)

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        return self._ask("get_operation", lambda agent: agent.journal.operation(request_id).view())

    def _change(self, operation: str, arguments: dict[str, object], request_id: str | None) -> Accepted:
        request = Request(
            request_id=str(request_id), operation=operation, instance_uuid=UUID, arguments=arguments, instance=None
        )

        def accept(agent: Agent) -> Accepted:
            if admit(agent.node, request):
                with suppress(Waits):
                    agent.carry_out(request)
            return answer_to(request)

        return self._ask(operation, accept)

    def _ask(self, what: str, answer: Callable[[Agent], T]) -> T:
        answers: list[T | ComputeAgentError] = []
        self._pair.source.touch(f"ask {what}", lambda: answers.append(self._answer(answer)))
        self._pair.asked += 1
        (one,) = answers
        if self._pair.asked == self._pair.lost:
            raise DeadlineExceeded("no answer")
        if isinstance(one, ComputeAgentError):
            raise one
        return one

    def _answer(self, answer: Callable[[Agent], T]) -> T | ComputeAgentError:
        agent = self._pair.agent_at_dest()
        try:
            with suppress(Waits):
                agent.recover()
            return answer(agent)
        except Killed:
            self._pair.dest.kill_at = None
            return DeadlineExceeded("no answer")
        except ComputeAgentError as error:
            return error
        finally:
            agent.journal.close()


class Source(Destination):
    """The agent at the source, as far as the other one asks it."""

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        agent = self._pair.agent_at_source()
        try:
            return agent.journal.operation(request_id).view()
        finally:
            agent.journal.close()


def moments_at(tmp_path: Path, where: Callable[[Pair], World], kind: type[Pair]) -> Iterator[tuple[int, Pair]]:
    """A pair for each moment of that host in a migration that goes well."""
    whole = kind(tmp_path / "whole")
    whole.move()
    whole.assert_one()
    assert whole.outcome() is OperationState.DONE
    for moment in range(1, len(where(whole).touches) + 1):
        yield moment, kind(tmp_path / str(moment))


def deaths_at(where: Callable[[Pair], World], tmp_path: Path, kind: type[Pair]) -> set[OperationState]:
    """How migrations end in which the agent there is killed, at each moment."""
    outcomes = set()
    for moment, pair in moments_at(tmp_path, where, kind):
        where(pair).kill_at = moment
        pair.move()
        pair.assert_one()
        outcomes.add(pair.outcome())
    return outcomes


def let_both_die(tmp_path: Path, kind: type[Pair]) -> None:
    """The agents, one at each moment, and the other at one of its own."""
    for moment, pair in moments_at(tmp_path, source_of, kind):
        pair.source.kill_at = moment
        pair.dest.kill_at = moment // 2 + 1
        pair.move()
        pair.assert_one()


def lose_answers(tmp_path: Path, kind: type[Pair]) -> None:
    """Each of them, one a migration."""
    whole = kind(tmp_path / "whole")
    whole.move()
    for number in range(1, whole.asked + 1):
        pair = kind(tmp_path / str(number))
        pair.lost = number
        pair.move()
        pair.assert_one()


def source_of(pair: Pair) -> World:
    return pair.source


def dest_of(pair: Pair) -> World:
    return pair.dest


@KINDS
def test_the_agent_at_the_source_is_killed_at_any_moment(tmp_path: Path, kind: type[Pair]) -> None:
    assert deaths_at(source_of, tmp_path, kind) == {OperationState.DONE, OperationState.FAILED}


@KINDS
def test_the_agent_at_the_destination_is_killed_at_any_moment(tmp_path: Path, kind: type[Pair]) -> None:
    assert deaths_at(dest_of, tmp_path, kind) == {OperationState.DONE}


def test_both_agents_are_killed_at_any_moment(tmp_path: Path) -> None:
    let_both_die(tmp_path, Pair)


def test_any_answer_is_lost(tmp_path: Path) -> None:
    lose_answers(tmp_path, Pair)


@pytest.mark.parametrize("moment", ["ask post_live_migration_at_destination", "send", "begin copy"])
def test_the_process_at_the_destination_dies(tmp_path: Path, moment: str) -> None:
    pair = Pair(tmp_path)
    pair.source.on_moment = {f"before {moment}": lambda: _die(pair.dest)}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED


def test_the_agent_at_the_source_is_killed_while_it_takes_the_guest_back(tmp_path: Path) -> None:
    asks = "before ask post_live_migration_at_destination"
    whole = Pair(tmp_path / "whole")
    whole.source.on_moment = {asks: lambda: _die(whole.dest)}
    whole.move()
    whole.assert_one()
    for moment in range(whole.source.touches.index(asks) + 1, len(whole.source.touches) + 1):
        pair = Pair(tmp_path / str(moment))
        pair.source.on_moment = {asks: partial(_die, pair.dest)}
        pair.source.kill_at = moment
        pair.move()
        pair.assert_one()
        assert pair.outcome() is OperationState.FAILED


@pytest.mark.parametrize("refused", ["begin copy", "send", "ask pre_live_migration", "ask get_incoming", "ask check"])
def test_what_fails_before_the_hand_over_is_undone(tmp_path: Path, refused: str) -> None:
    pair = Pair(tmp_path)
    pair.source.fail_at = refused
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED


@pytest.mark.parametrize("refused", ["kill", "unplug", "delete", "forget"])
def test_what_fails_after_the_hand_over_is_tried_again(tmp_path: Path, refused: str) -> None:
    pair = Pair(tmp_path)
    pair.source.fail_at = refused

    def mend() -> None:
        if pair.source.touches.count(f"before {refused}") == 3:
            pair.source.fail_at = None

    pair.source.on_moment = {f"before {refused}": mend}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.DONE


def test_nobody_lets_a_guest_run_whose_new_host_does_not_answer(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    asks = "before ask post_live_migration_at_destination"
    pair.source.on_moment = {asks: lambda: _stop_asking(pair)}
    agent = pair.agent_at_source()
    admit(agent.node, MOVE)
    pair.source.fail_at = "ask post_live_migration_at_destination"
    with pytest.raises(Killed):
        agent.carry_out(MOVE)
    assert pair.source.touches.count(asks) == 20
    assert pair.runners() == []
    assert agent.journal.operation(MOVE.request_id).state is OperationState.RUNNING


def test_a_late_message_of_an_earlier_migration_starts_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    asks = "before ask post_live_migration_at_destination"
    refusals = []

    def come_late() -> None:
        agent = pair.agent_at_dest()
        for what in ("post", "rollback"):
            late = Request(
                request_id=fresh_id(),
                operation=f"{what}_live_migration_at_destination",
                instance_uuid=UUID,
                arguments={"migration": fresh_id()},
            )
            with pytest.raises(MigrationRefused, match="another one"):
                admit(agent.node, late)
            refusals.append(what)
        agent.journal.close()

    pair.source.on_moment = {asks: come_late}
    pair.move()
    pair.assert_one()
    assert refusals == ["post", "rollback"]


def test_somebody_wishes_that_it_stays(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.source.on_moment = {"after copy most of it": lambda: pair.agent.node.wishes.update({MOVE.request_id: "abort"})}
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.FAILED
    assert "send" not in " ".join(pair.source.touches)


def test_somebody_wishes_that_it_gets_there_whatever_it_costs(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.source.on_moment = {"after copy most of it": lambda: pair.agent.node.wishes.update({MOVE.request_id: "force"})}
    pair.move()
    pair.assert_one()
    assert "after pause" in pair.source.touches
    assert pair.agent.node.wishes == {}


def test_its_ports_are_bound_in_another_way_there(tmp_path: Path) -> None:
    pair, details = Pair(tmp_path), {"bridge_name": "br-there", "vlan": 7}
    bindings = [{"port_id": PORT_ID, "vif_type": "ovs", "details": details}]
    pair.order = msgspec.structs.replace(MOVE, arguments={"dest": "node2", "bindings": bindings})
    pair.move()
    pair.assert_one()
    agent = pair.agent_at_dest()
    assert [port.details for port in agent.journal.instance(UUID).record.instance.ports] == [PortDetails(**details)]
    agent.journal.close()


@pytest.mark.parametrize(
    ("bound", "reason"), [([UUID], "has no such port"), ([PORT_ID, PORT_ID], r"bindings\[1\].port_id.*is bound twice")]
)
def test_ports_that_cannot_be_meant_are_refused(tmp_path: Path, bound: list[str], reason: str) -> None:
    pair = Pair(tmp_path)
    arguments = {"dest": "node2", "bindings": [{"port_id": one, "details": {}} for one in bound]}
    agent = pair.agent_at_source()
    with pytest.raises(InvalidMessage, match=reason):
        admit(agent.node, msgspec.structs.replace(MOVE, arguments=arguments))
    assert agent.journal.unfinished() == []
    agent.journal.close()


@pytest.mark.parametrize("operation", ["unpause", "stop", "reboot hard", "terminate", "start"])
def test_a_controller_can_do_nothing_with_a_guest_that_only_comes(tmp_path: Path, operation: str) -> None:
    pair = Pair(tmp_path)
    refused = []

    def order() -> None:
        agent = pair.agent_at_dest()
        with pytest.raises(InvalidState):
            admit(agent.node, request_for(operation, {"reboot_type": "HARD"} if "hard" in operation else {}))
        refused.append(operation)
        agent.journal.close()

    pair.source.on_moment = {"before send": order}
    pair.move()
    pair.assert_one()
    assert refused == [operation]


def test_a_destination_that_cannot_take_it_says_why_and_nothing_happens(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.dest.moving.is_refused = True
    pair.move()
    pair.assert_one()
    agent = pair.agent_at_source()
    fault = agent.journal.operation(MOVE.request_id).fault
    assert fault is not None and (fault.type, fault.message) == (
        "MigrationRefused",
        "cpu features: missing here: avx512f",
    )
    assert [one for one in pair.source.touches if "ask" not in one and "proof" not in one] == []
    assert pair.dest.touches == []


def test_an_encrypted_disk_goes_over_an_encrypted_connection(tmp_path: Path) -> None:
    pair = EncryptedPair(tmp_path)
    pair.move()
    pair.assert_one()
    assert pair.outcome() is OperationState.DONE


@pytest.mark.parametrize("too_late", [False, True])
def test_an_encrypted_disk_that_could_be_read_on_its_way_stays(tmp_path: Path, *, too_late: bool) -> None:
    pair = EncryptedPair(tmp_path)
    pair.source_encrypts, pair.dest_encrypts = False, too_late

    def forget() -> None:
        pair.dest_encrypts = False

    pair.source.on_moment = {"before ask get_incoming": forget}
    pair.move()
    pair.assert_one()
    agent = pair.agent_at_source()
    fault = agent.journal.operation(MOVE.request_id).fault
    agent.journal.close()
    assert fault is not None
    assert (fault.type, fault.message.partition(",")[0]) == ("MigrationRefused", "disk0: it is encrypted")
    assert ("before ask get_incoming" in pair.source.touches) is too_late


def test_a_destination_that_does_not_share_a_file_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.source.on_moment = {"before ask check": pair.source.moving.proofs.clear}
    pair.move()
    pair.assert_one()
    agent = pair.agent_at_source()
    fault = agent.journal.operation(MOVE.request_id).fault
    agent.journal.close()
    assert fault is not None and "it is not on a file system that both share" in fault.message
    assert pair.dest.touches == []


def _die(world: World) -> None:
    world.guests.pop(UUID, None)
    world.moving.end()


def _stop_asking(pair: Pair) -> None:
    if pair.source.touches.count("before ask post_live_migration_at_destination") == 20:
        raise Killed
