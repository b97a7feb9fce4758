"""Which hypervisor a new instance gets, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compute_agent.errors import HostError
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import Instance

Configured = Literal["auto", "vmm", "qemu"]

_UNASKED: dict[Configured, tuple[HypervisorName, str]] = {
    "auto": ("qemu", "[virt] hypervisor is auto, and vmm cannot take snapshots and backups of a running guest yet"),
    "vmm": ("vmm", "[virt] hypervisor is vmm"),
    "qemu": ("qemu", "[virt] hypervisor is qemu"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The hypervisor, and why it is that one."""

    name: HypervisorName
    reason: str


def choose(instance: Instance, configured: Configured) -> Choice:
    """What the flavor wants, else what is configured.

    :raises HostError: the flavor wants one that this host is not to use.
    """
    wanted = read_extra_specs(instance.flavor.extra_specs).hypervisor
    if wanted is None:
        return choose_unasked(configured)
    if configured == "qemu" and wanted != "qemu":
        raise HostError(f"instance.flavor.extra_specs: hw:hypervisor is {wanted}, but here [virt] hypervisor is qemu")
    return Choice(wanted, f"the flavor's hw:hypervisor is {wanted}")


def choose_unasked(configured: Configured) -> Choice:
    """For a flavor that does not say."""
    return Choice(*_UNASKED[configured])
