"""What a vCPU is in the middle of: everything that survives a suspension.

Source: Linux's Documentation/virt/kvm/api.rst. To restore a vCPU: `set_cpuid`, each `Part` in its order, `set_msrs`.
General registers come before events (to set them forgets a pending exception), the deadline of a timer after the APIC.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.handle import CData, KvmHandle
from compute_agent.virt.kvm.requests import Request

_MSRS_AT_ONCE = 256


class Part(Enum):
    """State in the kernel's own form: its structure, and the requests that get and set it."""

    SPECIAL_REGISTERS = ("kvm_sregs", Request.KVM_GET_SREGS, Request.KVM_SET_SREGS)
    REGISTERS = ("kvm_regs", Request.KVM_GET_REGS, Request.KVM_SET_REGS)
    XSAVE = ("kvm_xsave", Request.KVM_GET_XSAVE, Request.KVM_SET_XSAVE)
    XCRS = ("kvm_xcrs", Request.KVM_GET_XCRS, Request.KVM_SET_XCRS)
    DEBUG_REGISTERS = ("kvm_debugregs", Request.KVM_GET_DEBUGREGS, Request.KVM_SET_DEBUGREGS)
    LAPIC = ("kvm_lapic_state", Request.KVM_GET_LAPIC, Request.KVM_SET_LAPIC)
    EVENTS = ("kvm_vcpu_events", Request.KVM_GET_VCPU_EVENTS, Request.KVM_SET_VCPU_EVENTS)
    MP_STATE = ("kvm_mp_state", Request.KVM_GET_MP_STATE, Request.KVM_SET_MP_STATE)


class VcpuState(KvmHandle):
    """To be touched by the thread that runs the vCPU, or while none does."""

    def __init__(self, fd: int, xsave_size: int) -> None:
        """:param xsave_size: bytes of the processor's extended state; 0: the kernel knows the smaller kind only."""
        super().__init__(fd)
        self._xsave_size = xsave_size

    def registers(self) -> CData:
        """A copy of the general registers, a ``struct kvm_regs *``."""
        registers = ffi.new("struct kvm_regs *")
        self.ask(Request.KVM_GET_REGS, registers)
        return registers

    def set_registers(self, registers: CData) -> None:
        """All of them: begin with `registers`, or with zeros."""
        self.ask(Request.KVM_SET_REGS, registers)

    def special_registers(self) -> CData:
        """A copy of the segment, control and table registers, a ``struct kvm_sregs *``."""
        registers = ffi.new("struct kvm_sregs *")
        self.ask(Request.KVM_GET_SREGS, registers)
        return registers

    def set_special_registers(self, registers: CData) -> None:
        """All of them: begin with `special_registers`."""
        self.ask(Request.KVM_SET_SREGS, registers)

    def set_cpuid(self, table: CData) -> None:
        """What CPUID answers in the guest: `Device.supported_cpuid`, or less."""
        self.ask(Request.KVM_SET_CPUID2, table)

    def part(self, part: Part) -> bytes:
        """In the kernel's own form."""
        _, request, _ = part.value
        if part is Part.XSAVE and self._xsave_size:
            request = Request.KVM_GET_XSAVE2
        return self.get_state(request, self._structure(part))

    def set_part(self, part: Part, state: bytes) -> None:
        """As `part` has said, here or on a host with the same processor."""
        self.set_state(part.value[2], self._structure(part), state)

    def msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """The model-specific registers among `indices` that the vCPU has."""
        return dict(self._ask_msrs(Request.KVM_GET_MSRS, [(index, 0) for index in indices]))

    def set_msrs(self, values: Mapping[int, int]) -> list[int]:
        """Set all that can be set; those which the kernel has refused."""
        entries = list(values.items())
        taken = {index for index, _ in self._ask_msrs(Request.KVM_SET_MSRS, entries)}
        return [index for index in values if index not in taken]

    def tsc_khz(self) -> int:
        """How fast the guest's time stamp counter runs."""
        return self.ask(Request.KVM_GET_TSC_KHZ)

    def excuse_pause(self) -> None:
        """Tell the guest that its processor stood still, lest its watchdogs complain. Nothing where it does not ask."""
        try:
            self.ask(Request.KVM_KVMCLOCK_CTRL)
        except KvmError:
            if ffi.errno != errno.EINVAL:
                raise

    def _structure(self, part: Part) -> CData:
        if part is Part.XSAVE and self._xsave_size:
            return ffi.new("char[]", self._xsave_size)
        return ffi.new(f"struct {part.value[0]} *")

    def _ask_msrs(self, request: Request, entries: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The kernel stops at the first that it does not take; we go on behind it."""
        while entries:
            asked = entries[:_MSRS_AT_ONCE]
            filled = [{"index": index, "data": value} for index, value in asked]
            msrs = ffi.new("struct kvm_msrs *", {"nmsrs": len(asked), "entries": filled})
            taken = self.ask(request, msrs)
            yield from ((entry.index, entry.data) for entry in msrs.entries[0:taken])
            entries = entries[taken if taken == len(asked) else taken + 1 :]
