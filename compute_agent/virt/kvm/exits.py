"""Why a guest stopped, in the kernel's words."""

from __future__ import annotations

from enum import IntEnum

from compute_agent.virt.kvm.handle import CData


class ExitReason(IntEnum):
    """What an x86 host can report."""

    KVM_EXIT_UNKNOWN = 0
    KVM_EXIT_EXCEPTION = 1
    KVM_EXIT_IO = 2
    KVM_EXIT_HYPERCALL = 3
    KVM_EXIT_DEBUG = 4
    KVM_EXIT_HLT = 5
    KVM_EXIT_MMIO = 6
    KVM_EXIT_IRQ_WINDOW_OPEN = 7
    KVM_EXIT_SHUTDOWN = 8
    KVM_EXIT_FAIL_ENTRY = 9
    KVM_EXIT_INTR = 10
    KVM_EXIT_SET_TPR = 11
    KVM_EXIT_TPR_ACCESS = 12
    KVM_EXIT_NMI = 16
    KVM_EXIT_INTERNAL_ERROR = 17
    KVM_EXIT_SYSTEM_EVENT = 24
    KVM_EXIT_IOAPIC_EOI = 26
    KVM_EXIT_HYPERV = 27
    KVM_EXIT_X86_RDMSR = 29
    KVM_EXIT_X86_WRMSR = 30
    KVM_EXIT_DIRTY_RING_FULL = 31
    KVM_EXIT_AP_RESET_HOLD = 32
    KVM_EXIT_X86_BUS_LOCK = 33
    KVM_EXIT_XEN = 34
    KVM_EXIT_NOTIFY = 37


class InternalError(IntEnum):
    """Kinds of KVM_EXIT_INTERNAL_ERROR."""

    KVM_INTERNAL_ERROR_EMULATION = 1
    KVM_INTERNAL_ERROR_SIMUL_EX = 2
    KVM_INTERNAL_ERROR_DELIVERY_EV = 3
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4


_INSTRUCTION_BYTES_ARE_THERE = 1


def describe_exit(shared: CData) -> str:
    """The last exit, for a person: its name and what is known of it.

    :param shared: `Vcpu.shared`.
    """
    reason, detail = _name(ExitReason, shared.exit_reason), _describe(shared)
    return f"{reason}: {detail}" if detail else reason


def _describe(shared: CData) -> str:
    detail = ""
    match shared.exit_reason:
        case ExitReason.KVM_EXIT_IO:
            detail = f"port {shared.io.port:#x}"
        case ExitReason.KVM_EXIT_MMIO:
            detail = f"address {shared.mmio.phys_addr:#x}"
        case ExitReason.KVM_EXIT_SHUTDOWN:
            detail = "three faults in a row"
        case ExitReason.KVM_EXIT_FAIL_ENTRY:
            detail = f"the processor says {shared.fail_entry.hardware_entry_failure_reason:#x}"
        case ExitReason.KVM_EXIT_UNKNOWN:
            detail = f"the processor says {shared.hw.hardware_exit_reason:#x}"
        case ExitReason.KVM_EXIT_INTERNAL_ERROR:
            detail = _describe_internal_error(shared)
    return detail


def _describe_internal_error(shared: CData) -> str:
    kind = _name(InternalError, shared.internal.suberror)
    failure = shared.emulation_failure
    if shared.internal.suberror != InternalError.KVM_INTERNAL_ERROR_EMULATION or failure.ndata < 3:
        return kind
    if not failure.flags & _INSTRUCTION_BYTES_ARE_THERE:
        return kind
    return f"{kind} of {bytes(failure.insn_bytes[0 : failure.insn_size]).hex(' ')}"


def _name(names: type[IntEnum], number: int) -> str:
    try:
        return names(number).name
    except ValueError:
        return f"{names.__name__} {number}"
