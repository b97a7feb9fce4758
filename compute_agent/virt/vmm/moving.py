"""A guest's way from one host's `vmm` to another's, as the agents drive it over the monitors of the two processes.

The processes know nothing of keys: the kernel encrypts what they send (`compute_agent.host.kernel_tls`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from compute_agent import __version__
from compute_agent.block.mirrors import NoMirrors
from compute_agent.errors import MigrationRefused, MonitorError
from compute_agent.host.cpu import Processor
from compute_agent.host.kernel_tls import encrypt, find_problem
from compute_agent.host.qmp import Execute
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.process.compatibility import facts_of_host, require_cpu, require_version
from compute_agent.virt.process.incoming import ProcessIncoming
from compute_agent.virt.process.outgoing import ProcessOutgoing
from compute_agent.virt.vmm.design import MACHINE_TYPE

_TSC_TOLERANCE = 0.005
"""Kernels find out how fast it runs when they start, and not very well; processors of another speed differ by more."""


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
    """The `compute_agent.virt.migration.OutgoingMigration` of one guest, whose block server copies the disks."""

    def __init__(self, execute: Execute, seconds: float) -> None:
        """The process has `seconds` to end what it is told to."""
        super().__init__(execute, NoMirrors(), seconds)

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
        """:raises MonitorError: always."""
        raise MonitorError(f"{disks[0]} is not open in the guest's process, and has no block server")

    def let_memory_in(self, connection: int) -> None:
        """See the contract."""
        if self._key is not None:
            encrypt(connection, bytes.fromhex(self._key), "server")
        super().let_memory_in(connection)

    def shut_disks(self) -> None:
        """The block server has them."""


def _require_tls() -> None:
    problem = find_problem()
    if problem is not None:
        raise MigrationRefused("encryption", f"{problem}; or switch [migration] encrypt off")
