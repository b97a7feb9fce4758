"""What this host's KVM is and can do, and what keeps it from more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compute_agent.virt.kvm.proof import KVM_DEVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmCapabilities:
    """The values are plain: `dataclasses.asdict` makes JSON of it."""

    problem: str | None
    """Why KVM cannot be used at all (the rest is what is known of it nevertheless); None where it can be."""
    module: str | None
    """The kernel module that runs guests: ``kvm_amd``, ``kvm_intel``, or what else the kernel has loaded."""
    api_version: int | None
    """12, everywhere."""
    cpu_vendor: str
    """``AMD``, ``Intel``, or what the processor says."""
    cpu_model: str
    nested_paging: str | None
    """``NPT`` or ``EPT`` where it is there and in use."""
    nested_guests: bool | None
    """Whether a guest may run guests of its own; None: not known."""
    recommended_vcpus: int | None
    max_vcpus: int | None
    memory_slots: int | None
    extensions: tuple[str, ...]
    """Those of `compute_agent.virt.kvm.extensions` that are there."""
    missing: Mapping[str, str]
    """What is not there, each with why: what is wrong, or what cannot be done without it."""


def find_capabilities(device: Path = KVM_DEVICE, root: Path = Path("/")) -> KvmCapabilities:
    """Look at the device and at what the kernel says about it; some milliseconds. Raises nothing.

    :param root: of /proc and /sys.
    """
    raise NotImplementedError
