"""Whether a guest's state can be loaded by QEMU on another host: refused there before anything is carried."""

from __future__ import annotations

import msgspec

from compute_agent.errors import MigrationRefused
from compute_agent.host import page_faults
from compute_agent.host.cpu import Processor
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.process.compatibility import facts_of_host, require_cpu, require_version
from compute_agent.virt.qemu.capabilities import Capabilities


def facts_of(machine: Machine, found: Capabilities, cpu_features: frozenset[str] = frozenset()) -> HostFacts:
    """:raises MigrationRefused: a guest with such a machine can move nowhere.

    :param cpu_features: all that the guest sees of its CPU; empty: all that the host has.
    """
    if machine.accelerator != "kvm":
        # QEMU 7.2's threads for emulated CPUs lose writes to memory that is being sent.
        raise MigrationRefused("accelerator", f"{machine.accelerator} loses what a moving guest writes; kvm does not")
    facts = facts_of_host(found.version, found.accelerator.name)
    return msgspec.structs.replace(facts, cpu_features=tuple(sorted(cpu_features)))


def require_compatible(
    machine: Machine, facts: HostFacts | None, found: Capabilities, processor: Processor | None = None
) -> None:
    """:raises MigrationRefused: names what this host has not, or has otherwise.

    :param facts: None: the machine is only to be made here, and no state to be loaded.
    :param processor: this host's.
    """
    if machine.type not in found.machine_types:
        raise MigrationRefused("machine type", f"QEMU {found.version} here knows no {machine.type}")
    if machine.accelerator != found.accelerator.name:
        reason = f"{machine.accelerator} is needed, here is {found.accelerator.name}: {found.accelerator.reason}"
        raise MigrationRefused("accelerator", reason)
    if facts is not None:
        require_version(facts, found.version)
        require_cpu(facts, processor)


def require_post_copy(*, privileged: bool) -> None:
    """:raises MigrationRefused: a guest's QEMU, `privileged` or not, cannot fetch memory here when it is touched."""
    problem = page_faults.find_problem(privileged=privileged)
    if problem is not None:
        raise MigrationRefused("post-copy", problem)
