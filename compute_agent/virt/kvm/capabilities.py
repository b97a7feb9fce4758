"""What this host's KVM is and can do, and what keeps it from more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.host.cpu import Processor, read_processor
from compute_agent.virt.kvm.device import API_VERSION, KVM_DEVICE, Device
from compute_agent.virt.kvm.extensions import EXTENSIONS, MAX_VCPUS, NR_MEMSLOTS, NR_VCPUS, Extension
from compute_agent.virt.kvm.module import Module, find_module, technology_of

_NO_FLAG = "the processor shows neither svm nor vmx"
_FIRMWARE = "enable virtualization (AMD-V, VT-x) in the firmware; in a virtual machine, nesting on its own host"
_RIGHTS = "run it as root; or usermod -aG kvm USER"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmCapabilities:
    """The values are plain: `dataclasses.asdict` makes JSON of it."""

    problem: str | None = None
    """Why KVM cannot be used at all (the rest is what is known of it nevertheless); None where it can be."""
    remedy: str | None = None
    """The command or the setting that mends the problem."""
    module: str | None
    """The kernel module that runs guests: ``kvm_amd``, ``kvm_intel``, or what else is loaded."""
    cpu_vendor: str
    """``AMD``, ``Intel``, or what another calls itself."""
    cpu_model: str
    nested_paging: str | None
    """``NPT`` or ``EPT`` where it is in use."""
    nested_guests: bool | None
    """Whether a guest may run guests of its own; None: not known."""
    api_version: int | None = None
    """12, everywhere."""
    recommended_vcpus: int | None = None
    """For one guest: with more than the host has CPUs, they wait for each other."""
    max_vcpus: int | None = None
    memory_slots: int | None = None
    """Pieces of memory that one guest can have."""
    extensions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Those of `EXTENSIONS` that are there, by purpose."""
    missing: Mapping[str, str]
    """What is not there, each with why: what keeps it away, or what is lost without it."""


def find_capabilities(device: Path = KVM_DEVICE, root: Path = Path("/")) -> KvmCapabilities:
    """Look at the device and at what the kernel says about it; some milliseconds. A KVM that is broken is described.

    :param root: of /proc and /sys.
    """
    processor, module = read_processor(root), find_module(root)
    found = _look_around(processor, module)
    try:
        with Device(device) as kvm:
            return _ask(kvm, found)
    except KvmError as error:
        problem, remedy = _explain(error, device, processor, module)
        return replace(found, problem=problem, remedy=remedy)


def _look_around(processor: Processor, module: Module | None) -> KvmCapabilities:
    missing = dict(module.shortcomings(processor)) if module else {}
    if technology_of(processor) is None:
        missing["hardware_virtualization"] = f"{_NO_FLAG}: off in the firmware, or kept by a hypervisor below this host"
    return KvmCapabilities(
        module=module.name if module else None,
        cpu_vendor=processor.vendor,
        cpu_model=processor.model,
        nested_paging=module.nested_paging if module else None,
        nested_guests=module.nested_guests if module else None,
        missing=missing,
    )


def _ask(kvm: Device, found: KvmCapabilities) -> KvmCapabilities:
    version = kvm.api_version()
    if version != API_VERSION:
        raise KvmError(f"its API version is {version}, not {API_VERSION}")
    there = [one for one in EXTENSIONS if kvm.check_extension(one.number)]
    return replace(
        found,
        api_version=version,
        recommended_vcpus=kvm.check_extension(NR_VCPUS),
        max_vcpus=kvm.check_extension(MAX_VCPUS),
        memory_slots=kvm.check_extension(NR_MEMSLOTS),
        extensions=_by_purpose(there),
        missing={**found.missing, **{one.name: one.without for one in EXTENSIONS if one not in there}},
    )


def _by_purpose(extensions: Sequence[Extension]) -> dict[str, list[str]]:
    purposes = dict.fromkeys(one.purpose for one in extensions)
    return {purpose: [one.name for one in extensions if one.purpose == purpose] for purpose in purposes}


def _explain(error: KvmError, device: Path, processor: Processor, module: Module | None) -> tuple[str, str]:
    """What keeps the device from being used, and what helps."""
    if device.exists():
        return str(error), "dmesg | grep -i kvm" if os.access(device, os.R_OK | os.W_OK) else _RIGHTS
    if module is not None:
        return f"there is no {device}, though {module.name} is loaded", "give the container the device; udevadm trigger"
    technology = technology_of(processor)
    if technology is None:
        return f"there is no {device}: {_NO_FLAG}", _FIRMWARE
    return f"there is no {device}: module {technology.module} is not loaded", f"modprobe {technology.module}"
