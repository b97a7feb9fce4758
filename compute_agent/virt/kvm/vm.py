"""One virtual machine."""

from __future__ import annotations

from compute_agent.virt.kvm.abi import ffi
from compute_agent.virt.kvm.handle import KvmHandle, Request
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vcpu import Vcpu


class Vm(KvmHandle):
    """Its memory and vCPUs are closed by whoever made them; the machine ends with the last descriptor."""

    def __init__(self, fd: int, shared_size: int) -> None:
        """:param shared_size: of what the kernel shares with us for each vCPU, bytes."""
        super().__init__(fd)
        self._shared_size = shared_size

    def add_memory(self, slot: int, guest_address: int, memory: GuestMemory) -> None:
        """Show the guest all of `memory` at a physical address; `slot` numbers the pieces."""
        region = ffi.new(
            "struct kvm_userspace_memory_region *",
            {
                "slot": slot,
                "guest_phys_addr": guest_address,
                "memory_size": memory.size,
                "userspace_addr": memory.host_address,
            },
        )
        self.ask(Request.KVM_SET_USER_MEMORY_REGION, region)

    def create_vcpu(self, number: int) -> Vcpu:
        """A vCPU as after reset; `number` is its APIC id too."""
        return Vcpu(self.ask(Request.KVM_CREATE_VCPU, number), self._shared_size)
