"""Whether a guest's state can be loaded on another host, as far as every hypervisor asks the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from compute_agent.errors import MigrationRefused
from compute_agent.host.cpu import Processor, read_processor
from compute_agent.instance.migration import HostFacts

_MOST_NAMED = 5
"""Features of a CPU."""
_SAME_FOR_GUESTS = frozenset({"nonstop_tsc", "constant_tsc", "aperfmperf", "arat", "hypervisor", "rep_good", "nopl"})
"""Features that say how this kernel runs, and no guest sees."""


def facts_of_host(version: str, accelerator: Literal["kvm", "tcg"]) -> HostFacts:
    """This one's; `version`: of the hypervisor."""
    processor = read_processor()
    return HostFacts(
        hypervisor_version=version,
        accelerator=accelerator,
        cpu_vendor=processor.vendor,
        cpu_flags=sorted(processor.flags),
    )


def require_version(facts: HostFacts, version: str) -> None:
    """:raises MigrationRefused: the hypervisor here, of that version, is older than the one that the guest runs in."""
    if _numbers(version) < _numbers(facts.hypervisor_version):
        reason = f"{version} here is older than the guest's {facts.hypervisor_version}"
        raise MigrationRefused("hypervisor version", reason)


def require_cpu(facts: HostFacts, processor: Processor | None = None) -> None:
    """A guest with its host's CPU has seen all of its features; what another has seen is known by other names.

    :param processor: this host's.
    :raises MigrationRefused: names what is missing here.
    """
    processor = processor or read_processor()
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
