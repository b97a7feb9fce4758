"""One virtual CPU."""

from __future__ import annotations

import mmap

from compute_agent.virt.kvm.abi import ffi
from compute_agent.virt.kvm.handle import CData, KvmHandle, Request, kernel, refusal

_RUN = int(Request.KVM_RUN)


class Vcpu(KvmHandle):
    """Belongs to the thread that runs it. `shared` is the ``struct kvm_run`` that the kernel and we write into."""

    def __init__(self, fd: int, shared_size: int) -> None:
        super().__init__(fd)
        self._mapping = mmap.mmap(fd, shared_size)
        self.shared: CData = ffi.from_buffer("struct kvm_run *", self._mapping)

    def close(self) -> None:
        ffi.release(self.shared)
        self._mapping.close()
        super().close()

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

    def run(self) -> int:
        """Let the guest run until it needs us; the reason, as in `compute_agent.virt.kvm.exits`.

        Lets other threads of ours run meanwhile.
        """
        if kernel.ioctl(self._fd, _RUN, ffi.NULL) < 0:  # not by `ask`, which takes as long as an exit does
            raise refusal(Request.KVM_RUN)
        reason: int = self.shared.exit_reason
        return reason
