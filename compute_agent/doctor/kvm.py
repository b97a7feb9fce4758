"""KVM itself: a guest of some hundred bytes shows whether it runs what an operating system needs, and how fast."""

from __future__ import annotations

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.errors import KvmError
from compute_agent.virt.kvm.capabilities import KvmCapabilities, find_capabilities
from compute_agent.virt.kvm.proof import Proof, prove

DEADLINE = 30.0
"""Seconds; it takes a tenth of one, or some where the host itself is emulated."""
_PROOF_SECONDS = 20.0
_SLOWEST_TURN = 100.0
"""Nanoseconds: a processor is faster, who emulates it is slower."""
_FIRMWARE = "enable virtualization (AMD-V, VT-x) in the firmware; in a virtual machine, nesting on its own host"


def check_kvm() -> list[Finding]:
    """Ask it what it has, then have it run a guest."""
    capabilities = find_capabilities()
    if capabilities.problem is not None:
        return [failure("kvm", capabilities.problem, capabilities.remedy or _FIRMWARE)]
    try:
        return [judge_proof(capabilities, prove(seconds=_PROOF_SECONDS))]
    except KvmError as error:
        return [failure("kvm", f"{_describe(capabilities)}: runs no 64-bit guest: {error}", _FIRMWARE)]


def judge_proof(capabilities: KvmCapabilities, proof: Proof) -> Finding:
    """It runs a guest; as a processor does?"""
    cost = f"an exit takes {proof.exit_nanoseconds / 1000:.1f} us"
    if proof.turn_nanoseconds > _SLOWEST_TURN:
        found = f"{_describe(capabilities)}: emulates the guest's instructions instead of running them; {cost}"
        return warning("kvm", found, _FIRMWARE)
    return ok("kvm", f"{_describe(capabilities)}: runs a 64-bit guest; {cost}")


def _describe(capabilities: KvmCapabilities) -> str:
    paging = capabilities.nested_paging or "no nested paging"
    return f"{capabilities.module}, {paging}, API {capabilities.api_version}"
