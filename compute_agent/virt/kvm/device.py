"""The device: what KVM is on this host."""

from __future__ import annotations

import os
from pathlib import Path

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.handle import CData, KvmHandle
from compute_agent.virt.kvm.requests import Request
from compute_agent.virt.kvm.vm import Vm

KVM_DEVICE = Path("/dev/kvm")
API_VERSION = 12
"""The only one since Linux 2.6.22; the kernel promises to keep it."""

_CPUID_ENTRIES = 256
_MSRS = 1024
"""More than the kernel has ever reported."""


class Device(KvmHandle):
    """An open /dev/kvm.

    :raises KvmError: it cannot be opened.
    """

    def __init__(self, path: Path = KVM_DEVICE) -> None:
        try:
            super().__init__(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise KvmError(str(path), error.strerror) from error

    def api_version(self) -> int:
        """`API_VERSION`, or else nothing below is to be trusted."""
        return self.ask(Request.KVM_GET_API_VERSION)

    def check_extension(self, number: int) -> int:
        """0 where the extension is not there; what another number says depends on the extension."""
        return self.ask(Request.KVM_CHECK_EXTENSION, number)

    def supported_cpuid(self) -> CData:
        """All that a vCPU may show a guest through CPUID, as a ``struct kvm_cpuid2 *``."""
        table = ffi.new("struct kvm_cpuid2 *", {"nent": _CPUID_ENTRIES, "entries": _CPUID_ENTRIES})
        self.ask(Request.KVM_GET_SUPPORTED_CPUID, table)
        return table

    def msr_indices(self) -> list[int]:
        """The model-specific registers that are part of a vCPU's state."""
        found = ffi.new("struct kvm_msr_list *", {"nmsrs": _MSRS, "indices": _MSRS})
        self.ask(Request.KVM_GET_MSR_INDEX_LIST, found)
        return list(found.indices[0 : found.nmsrs])

    def create_vm(self) -> Vm:
        """A machine without memory and vCPUs."""
        shared_size = self.ask(Request.KVM_GET_VCPU_MMAP_SIZE)
        return Vm(self.ask(Request.KVM_CREATE_VM), shared_size)

    def tsc_khz(self) -> int:
        """How fast time stamp counters run in guests that are given no rate of their own. Makes a machine, for that."""
        with self.create_vm() as vm, vm.create_vcpu(0) as vcpu:
            return vcpu.tsc_khz()
