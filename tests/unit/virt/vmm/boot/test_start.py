"""A kernel's first instructions, on this machine's own /dev/kvm: where it cannot be used, this fails."""

from __future__ import annotations

import pytest

from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.exits import ExitReason
from compute_agent.virt.kvm.vcpu import Vcpu
from compute_agent.virt.vmm.boot.start import KernelStart
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.plan import KernelPlan
from tests.unit.virt.vmm.boot.test_elf import MIB, PVH, a_kernel
from tests.unit.virt.vmm.boot.test_linux import opened

PORT = 0x10


def said(vcpu: Vcpu) -> bytes:
    """The four bytes that it writes to the port next."""
    assert (vcpu.run(), vcpu.shared.io.port, vcpu.shared.io.size) == (ExitReason.KVM_EXIT_IO, PORT, 4)
    return bytes(ffi.buffer(ffi.cast("uint8_t *", vcpu.shared) + vcpu.shared.io.data_offset, 4))


@pytest.mark.parametrize(
    ("image", "first"),
    [
        # mov edx, 0x10; mov eax, [ebx]; out dx, eax; mov eax, [ebx + 24]; mov eax, [eax]; out dx, eax
        (a_kernel(PVH, code="ba10000000 8b03 ef 8b4318 8b00 ef"), (0x336EC578).to_bytes(4, "little")),
        # mov edx, 0x10; mov eax, [rsi + 0x202]; out dx, eax; mov eax, [rsi + 0x228]; mov eax, [rax]; out dx, eax
        (a_kernel(code="ba10000000 8b8602020000 ef 8b8628020000 8b00 ef"), b"HdrS"),
    ],
)
def test_it_finds_what_it_is_told_and_its_command_line(image: bytes, first: bytes) -> None:
    with GuestRam(16 * MIB) as ram, opened(image) as file, Device() as device, device.create_vm() as vm:
        vm.set_memory(0, 0, ram.host_address(ram.regions[0]), ram.size)
        with vm.create_vcpu(0) as vcpu:
            vcpu.set_cpuid(device.supported_cpuid())
            KernelStart(KernelPlan(image=file, command_line="quiet"), 1)(ram, vcpu)
            assert (said(vcpu), said(vcpu)) == (first, b"quie")
