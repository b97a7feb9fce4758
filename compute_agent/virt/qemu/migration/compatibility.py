"""Whether a guest's state can be loaded on another host: refused there before anything is carried."""

from __future__ import annotations

from collections.abc import Iterable

from compute_agent.errors import MigrationRefused
from compute_agent.host.cpu import Processor, read_processor
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.qemu.capabilities import Capabilities

_MOST_NAMED = 5
"""Features of a CPU."""
_SAME_FOR_GUESTS = frozenset({"nonstop_tsc", "constant_tsc", "aperfmperf", "arat", "hypervisor", "rep_good", "nopl"})
"""Features that say how this kernel runs, and no guest sees."""


def facts_of(machine: Machine, found: Capabilities, cpu_features: frozenset[str] = frozenset()) -> HostFacts:
    """:raises MigrationRefused: a guest with such a machine can move nowhere.

    :param cpu_features: all that the guest sees of its CPU; empty: all that the host has.
    """
    if machine.accelerator != "kvm":
        # QEMU 7.2's threads for emulated CPUs lose writes to memory that is being sent.
        raise MigrationRefused("accelerator", f"{machine.accelerator} loses what a moving guest writes; kvm does not")
    processor = read_processor()
    return HostFacts(
        hypervisor_version=found.version,
        accelerator=found.accelerator.name,
        cpu_vendor=processor.vendor,
        cpu_flags=sorted(processor.flags),
        cpu_features=tuple(sorted(cpu_features)),
    )


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
        _require_state(facts, found, processor or read_processor())


def _require_state(facts: HostFacts, found: Capabilities, processor: Processor) -> None:
    if _numbers(found.version) < _numbers(facts.hypervisor_version):
        reason = f"{found.version} here is older than the guest's {facts.hypervisor_version}"
        raise MigrationRefused("hypervisor version", reason)
    _require_cpu(facts, processor)


def _require_cpu(facts: HostFacts, processor: Processor) -> None:
    """A guest with its host's CPU has seen all of its features; what another has seen is known by other names."""
    if processor.vendor != facts.cpu_vendor:
        raise MigrationRefused("cpu vendor", f"{facts.cpu_vendor} is needed, here is {processor.vendor}")
    if not facts.cpu_features:
        require_features(facts.cpu_flags, processor.flags | _SAME_FOR_GUESTS)


def require_features(wanted: Iterable[str], here: Iterable[str]) -> None:
    """:raises MigrationRefused: not all of them are here; names some that are not."""
    missing = sorted(set(wanted) - set(here))
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise MigrationRefused("cpu features", f"missing here: {', '.join(missing[:_MOST_NAMED])}{more}")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")[:2]]
