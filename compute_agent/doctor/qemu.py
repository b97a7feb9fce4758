"""QEMU: does it run, and does it run a guest as it is configured to?"""

from __future__ import annotations

from dataclasses import replace

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.errors import HostError
from compute_agent.virt.qemu.accelerator import probe
from compute_agent.virt.qemu.capabilities import find_capabilities
from compute_agent.virt.settings import VirtSettings

DEADLINE = 45.0
"""Seconds; it takes half of one, or some where the host itself is emulated."""

_ACCEPT_EMULATION = "give the host a KVM that works (see kvm); or set [virt] accelerator = tcg, and accept slow guests"


def check_qemu(settings: VirtSettings) -> list[Finding]:
    """Run it, then run a guest's first instructions with it."""
    try:
        capabilities = find_capabilities(replace(settings, accelerator="tcg"))
    except HostError as error:
        return [failure("qemu", str(error), "apt install qemu-system-x86; or correct [virt] qemu_binary")]
    found = f"{capabilities.version} ({capabilities.machine_type})"
    if settings.accelerator == "tcg":
        refusal = probe(settings.qemu_binary, "tcg", "max")
        return [judge_emulation(found, refusal)]
    return [judge_kvm(found, probe(settings.qemu_binary, "kvm", "host"))]


def judge_kvm(qemu: str, refusal: str | None) -> Finding:
    """`refusal` is why QEMU could not run a guest under KVM."""
    if refusal is None:
        return ok("qemu", f"{qemu} runs a 64-bit guest under KVM")
    return failure("qemu", f"{qemu} runs no guest under KVM: {refusal}", _ACCEPT_EMULATION)


def judge_emulation(qemu: str, refusal: str | None) -> Finding:
    """`refusal` is why QEMU could not emulate a guest."""
    if refusal is None:
        found = f"{qemu} emulates guests: [virt] accelerator is tcg"
        return warning("qemu", found, "set [virt] accelerator = auto")
    return failure("qemu", f"{qemu} cannot even emulate a guest: {refusal}", "apt install --reinstall qemu-system-x86")
