"""What the agents do to move a guest of `vmm`: over the monitors of two machines that are really there."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import msgspec
import pytest

from compute_agent.errors import MigrationRefused, MonitorError
from compute_agent.host.cpu import Processor
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.machine import Machine as MachineRecord
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.migration import Pace
from compute_agent.virt.vmm import moving
from compute_agent.virt.vmm.control import commands_of
from compute_agent.virt.vmm.machine import Machine
from compute_agent.virt.vmm.moving import VmmIncoming, VmmOutgoing, require_compatible, require_machine
from compute_agent.virt.vmm.run_state import RunState
from tests.unit.virt.vmm.counting_machine import counter
from tests.unit.virt.waiting import until

KEY = "ab" * 32
PROMPT = Pace(downtime=5.0)


class Monitor:
    """One machine's commands, and the descriptors that it was handed."""

    def __init__(self, machine: Machine) -> None:
        self._commands = commands_of(machine)
        self._files: dict[str, int] = {}

    def take(self, name: str) -> int:
        if name not in self._files:
            raise MonitorError(f"File descriptor named '{name}' has not been found")
        return self._files.pop(name)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None) -> object:
        given = dict(arguments or {})
        if command == "getfd":
            assert fd is not None
            self._files[str(given["fdname"])] = socket.dup(fd)
            return {}
        if command == "closefd":
            socket.close(self.take(str(given["fdname"])))
            return {}
        return self._commands[command](json.dumps(given).encode(), self) or {}


@pytest.fixture
def outgoing(here: Machine) -> VmmOutgoing:
    return VmmOutgoing(Monitor(here).execute, 10.0)


@pytest.fixture
def incoming(there: Machine) -> VmmIncoming:
    return VmmIncoming(Monitor(there).execute)


def begin(outgoing: VmmOutgoing, incoming: VmmIncoming, key: str | None = None, *, disks: Sequence[str] = ()) -> None:
    """As two agents do."""
    incoming.prepare()
    incoming.use_key(key)
    out, into = socket.socketpair()
    with out, into:
        incoming.let_memory_in(into.fileno())
        targets = {disk: NbdSource(export=disk, fd=out.fileno()) for disk in disks}
        outgoing.begin(out.fileno(), targets, PROMPT, key)


def carry(outgoing: VmmOutgoing) -> None:
    until(lambda: outgoing.advance(0.05).stage == "complete")


def test_it_is_carried_and_runs_when_somebody_lets_it(
    here: Machine, there: Machine, outgoing: VmmOutgoing, incoming: VmmIncoming
) -> None:
    begin(outgoing, incoming)
    carry(outgoing)
    until(incoming.is_complete)
    assert (here.life.state, there.life.state) == (RunState.POSTMIGRATE, RunState.PAUSED)
    there.life.resume()
    incoming.announce()
    until(lambda: counter(there) > counter(here))
    assert outgoing.advance(0).stage == "complete", "the next agent sees it, too"
    with pytest.raises(MonitorError, match="does not wait"):
        begin(outgoing, incoming)


def test_one_that_is_cancelled_leaves_nothing(
    here: Machine, there: Machine, outgoing: VmmOutgoing, incoming: VmmIncoming
) -> None:
    outgoing.cancel()
    begin(outgoing, incoming)
    outgoing.cancel()
    outgoing.cancel()
    with pytest.raises(MonitorError):
        outgoing.advance(0)
    assert not incoming.is_complete()
    here.life.resume()  # it may have been halted already
    counted = counter(here)
    until(lambda: counter(here) > counted)


def test_a_kernel_that_cannot_encrypt_is_a_refusal_and_nothing_is_sent(
    here: Machine, outgoing: VmmOutgoing, incoming: VmmIncoming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "find_problem", lambda: "it has no TLS")
    for use in (lambda: incoming.use_key(KEY), lambda: begin(outgoing, incoming, KEY)):
        with pytest.raises(MigrationRefused, match="encryption: it has no TLS; or switch"):
            use()
    with closing(socket.socketpair()[0]) as out, pytest.raises(MigrationRefused, match="encryption"):
        outgoing.begin(out.fileno(), {}, PROMPT, KEY)
    assert not here.moves.carrier.is_active


class OneMirror:
    """A block server's copies, which are complete when the machine is not looked at while it runs."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.begun: list[str] = []
        self.is_abandoned = False
        self.tell: Callable[[Callable[[], None]], None] = lambda changed: None

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, key: str | None) -> None:
        self.begun += disks

    def jobs(self) -> list[dict[str, object]]:
        return [{"id": "mirror-disk0", "status": "ready", "current-progress": 1, "total-progress": 1}] * len(self.begun)

    def finish(self) -> None:
        assert self._machine.life.state is RunState.PAUSED, "what it wrote next would be in one copy only"
        self.begun.clear()

    def abandon(self) -> None:
        self.is_abandoned = True


def test_its_disks_are_let_go_of_while_it_stands_still(
    here: Machine, outgoing: VmmOutgoing, incoming: VmmIncoming
) -> None:
    mirror = OneMirror(here)
    outgoing.have_disks_copied_by(mirror)
    here.life.resume()
    begin(outgoing, incoming, disks=["disk0"])
    assert mirror.begun == ["disk0"]
    carry(outgoing)
    assert mirror.begun == []
    outgoing.cancel()
    assert mirror.is_abandoned


def test_a_disk_that_nobody_has_open_does_not_go(outgoing: VmmOutgoing, incoming: VmmIncoming) -> None:
    with pytest.raises(MonitorError, match="disk0 is open nowhere"):
        begin(outgoing, incoming, disks=["disk0"])
    outgoing.cancel()
    with pytest.raises(MonitorError, match="disk0 is not open in the guest's process"):
        incoming.let_disks_in(-1, ["disk0"])


MACHINE = MachineRecord(hypervisor="vmm", type="vmm-1", accelerator="kvm", cpu="host", slots={})
FACTS = HostFacts(
    hypervisor_version="0.1.0", accelerator="kvm", cpu_vendor="AMD", cpu_flags=["avx", "sse2"], tsc_khz=2_600_000
)
CPU = Processor(vendor="AMD", model="EPYC", flags=frozenset({"avx", "sse2", "svm"}))


def test_a_host_that_is_the_same_for_the_guest_takes_it() -> None:
    require_machine(MACHINE)
    require_compatible(FACTS, 2_600_400, CPU)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"hypervisor_version": "99.0.0"}, "hypervisor version: .* here is older"),
        ({"cpu_vendor": "Intel"}, "cpu vendor: Intel is needed, here is AMD"),
        ({"cpu_flags": ["avx", "avx512f"]}, "cpu features: missing here: avx512f$"),
        ({"tsc_khz": 2_400_000}, "time stamp counter: 2400000 kHz is what the guest knows, here are 2600000"),
    ],
)
def test_what_is_otherwise_is_named(facts: dict[str, object], reason: str) -> None:
    with pytest.raises(MigrationRefused, match=reason):
        require_compatible(msgspec.structs.replace(FACTS, **facts), 2_600_000, CPU)


def test_another_type_of_machine_is_named() -> None:
    with pytest.raises(MigrationRefused, match=r"machine type: vmm .* here makes vmm-1, not vmm-2"):
        require_machine(msgspec.structs.replace(MACHINE, type="vmm-2"))
