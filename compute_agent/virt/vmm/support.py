"""Whether this host can run machines of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.capabilities import find_capabilities
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.proof import prove
from compute_agent.virt.settings import VirtSettings

_VHOST_NET = Path("/dev/vhost-net")
_NEEDED = ("user_memory", "irqchip", "irq_routing", "irqfd", "ioeventfd", "immediate_exit", "adjust_clock")

_PROOF_SECONDS = 20.0
"""Where KVM works it takes a tenth of a second, or some where the host itself is emulated and busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What KVM gives."""

    problem: str | None
    """Why there can be no machine; None where there can be."""
    max_vcpus: int = 0
    tsc_khz: int = 0
    """How fast guests' time stamp counters run."""


def find_support(settings: VirtSettings) -> Support:
    """Ask KVM, and have it run a small guest. Takes as long as that: the caller keeps a good answer."""
    if settings.accelerator == "tcg":
        return Support(problem="[virt] accelerator is tcg, and vmm needs KVM")
    if not _VHOST_NET.exists():
        return Support(problem=f"there is no {_VHOST_NET}: modprobe vhost_net")
    found = find_capabilities()
    missing = sorted(set(_NEEDED) & found.missing.keys())
    if found.problem or missing:
        return Support(problem=found.problem or f"KVM lacks {', '.join(missing)}")
    try:
        prove(seconds=_PROOF_SECONDS)
        with Device() as device:
            tsc_khz = device.tsc_khz()
    except KvmError as error:
        return Support(problem=f"KVM cannot run a guest here: {error}")
    return Support(problem=None, max_vcpus=found.max_vcpus or 1, tsc_khz=tsc_khz)
