"""A guest's way from one host's `vmm` to another's, as the agents drive it over the monitors of the two processes.

The processes know nothing of keys: the kernel encrypts what they send (`compute_agent.host.kernel_tls`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compute_agent import __version__
from compute_agent.errors import MigrationRefused
from compute_agent.host.cpu import Processor
from compute_agent.host.kernel_tls import encrypt, find_problem
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.process.compatibility import facts_of_host, require_cpu, require_version
from compute_agent.virt.process.incoming import ProcessIncoming
from compute_agent.virt.process.outgoing import ProcessOutgoing
from compute_agent.virt.vmm.design import MACHINE_TYPE

_TSC_TOLERANCE = 0.005
"""Kernels find out how fast it runs when they start, and not very well; processors of another speed differ by more."""
_STAYS = "a disk of vmm that is a local file cannot move yet"


def facts_here(tsc_khz: int) -> HostFacts:
    """What a guest's state depends on beside its machine."""
    return msgspec.structs.replace(facts_of_host(__version__, "kvm"), tsc_khz=tsc_khz)


def require_machine(machine: Machine) -> None:
    """:raises MigrationRefused: vmm here makes none like that."""
    if machine.type != MACHINE_TYPE:
        raise MigrationRefused("machine type", f"vmm {__version__} here makes {MACHINE_TYPE}, not {machine.type}")


def require_compatible(facts: HostFacts, tsc_khz: int, processor: Processor | None = None) -> None:
    """:raises MigrationRefused: names what this host has not, or has otherwise, for the state of a guest.

    :param tsc_khz, processor: this host's.
    """
    require_version(facts, __version__)
    require_cpu(facts, processor)
    if facts.tsc_khz is None or abs(facts.tsc_khz - tsc_khz) > facts.tsc_khz * _TSC_TOLERANCE:
        reason = f"{facts.tsc_khz} kHz is what the guest knows, here are {tsc_khz}"
        raise MigrationRefused("time stamp counter", reason)


class VmmOutgoing(ProcessOutgoing):
    """The `compute_agent.virt.migration.OutgoingMigration` of one guest."""

    def __init__(self, execute: Execute, seconds: float) -> None:
        """The process has `seconds` to end what it is told to."""
        super().__init__(execute, NoDisks(), seconds)

    def _use_key(self, memory: int, key: str) -> None:
        _require_tls()
        encrypt(memory, bytes.fromhex(key), "client")

    def _forget_key(self) -> None:
        """It is known to the connection only."""


class VmmIncoming(ProcessIncoming):
    """The `compute_agent.virt.migration.IncomingMigration` of one guest."""

    def __init__(self, execute: Execute) -> None:
        super().__init__(execute)
        self._key: str | None = None

    def prepare(self) -> None:
        """Nothing happens by itself."""

    def use_key(self, key: str | None) -> None:
        """See the contract.

        :raises MigrationRefused: this host's kernel cannot encrypt.
        """
        if key is not None:
            _require_tls()
        self._key = key

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        """:raises MigrationRefused: always."""
        raise MigrationRefused(disks[0], _STAYS)

    def let_memory_in(self, connection: int) -> None:
        """See the contract."""
        if self._key is not None:
            encrypt(connection, bytes.fromhex(self._key), "server")
        super().let_memory_in(connection)

    def shut_disks(self) -> None:
        """Nobody else ever wrote to them."""


class NoDisks:
    """A `compute_agent.virt.process.outgoing.DiskCopies`: disks that both hosts can reach need none."""

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, *, encrypted: bool) -> None:
        for name in disks:
            raise MigrationRefused(name, _STAYS)

    def jobs(self) -> list[dict[str, Any]]:
        return []

    def finish(self) -> None:
        """There is none."""

    def abandon(self) -> None:
        """There is none."""

    def heard(self, event: Mapping[str, Any]) -> None:
        """It is about none."""


def _require_tls() -> None:
    problem = find_problem()
    if problem is not None:
        raise MigrationRefused("encryption", f"{problem}; or switch [migration] encrypt off")
