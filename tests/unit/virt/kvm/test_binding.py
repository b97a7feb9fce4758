"""The binding against what a C compiler makes of Linux's own <linux/kvm.h> on x86-64."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm import abi
from compute_agent.virt.kvm.abi import ffi
from compute_agent.virt.kvm.definitions import generate
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.handle import KvmHandle, Request
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vm import Vm

OFFSETS = {
    ("kvm_run", "exit_reason"): 8,
    ("kvm_run", "hw"): 32,
    ("kvm_run", "fail_entry", "cpu"): 40,
    ("kvm_run", "io", "port"): 34,
    ("kvm_run", "io", "data_offset"): 40,
    ("kvm_run", "mmio", "is_write"): 52,
    ("kvm_run", "internal", "data"): 40,
    ("kvm_run", "emulation_failure", "insn_bytes"): 49,
    ("kvm_run", "kvm_valid_regs"): 288,
    ("kvm_run", "sync_regs"): 304,
    ("kvm_regs", "rsi"): 32,
    ("kvm_regs", "rip"): 128,
    ("kvm_sregs", "tr"): 144,
    ("kvm_sregs", "gdt"): 192,
    ("kvm_sregs", "cr0"): 224,
    ("kvm_sregs", "efer"): 264,
    ("kvm_segment", "type"): 14,
    ("kvm_segment", "unusable"): 22,
    ("kvm_cpuid2", "entries"): 8,
    ("kvm_cpuid_entry2", "eax"): 12,
    ("kvm_userspace_memory_region", "userspace_addr"): 24,
}

SIZES = {
    "kvm_run": 2352,
    "kvm_regs": 144,
    "kvm_sregs": 312,
    "kvm_segment": 24,
    "kvm_dtable": 16,
    "kvm_cpuid2": 8,
    "kvm_cpuid_entry2": 40,
    "kvm_userspace_memory_region": 32,
}

REQUESTS = {
    "KVM_GET_API_VERSION": 0xAE00,
    "KVM_CREATE_VM": 0xAE01,
    "KVM_CHECK_EXTENSION": 0xAE03,
    "KVM_GET_VCPU_MMAP_SIZE": 0xAE04,
    "KVM_GET_SUPPORTED_CPUID": 0xC008AE05,
    "KVM_CREATE_VCPU": 0xAE41,
    "KVM_SET_USER_MEMORY_REGION": 0x4020AE46,
    "KVM_RUN": 0xAE80,
    "KVM_GET_REGS": 0x8090AE81,
    "KVM_SET_REGS": 0x4090AE82,
    "KVM_GET_SREGS": 0x8138AE83,
    "KVM_SET_SREGS": 0x4138AE84,
    "KVM_SET_CPUID2": 0x4008AE90,
}


def test_sizes() -> None:
    assert {name: ffi.sizeof(f"struct {name}") for name in SIZES} == SIZES


def test_offsets() -> None:
    assert {(name, *path): ffi.offsetof(f"struct {name}", *path) for name, *path in OFFSETS} == OFFSETS


def test_requests() -> None:
    assert {request.name: request.value for request in Request} == REQUESTS


def test_the_module_is_made_from_the_definitions(tmp_path: Path) -> None:
    generate(tmp_path / "abi.py")
    assert Path(abi.__file__).read_text() == (tmp_path / "abi.py").read_text(), "run `make generate`"


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KvmError, match="none: No such file or directory"):
        Device(tmp_path / "none")


def test_a_refused_request_is_named_with_its_reason() -> None:
    with Device(Path("/dev/null")) as device, pytest.raises(KvmError) as refused:
        device.api_version()
    assert str(refused.value) == "KVM_GET_API_VERSION: Inappropriate ioctl for device"


def test_a_handle_closes_its_descriptor_once() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    handle = KvmHandle(fd)
    handle.close()
    reused = os.open("/dev/null", os.O_RDONLY)
    handle.close()
    assert reused == fd
    os.close(reused)


def test_memory_is_where_it_says() -> None:
    with GuestMemory(4096) as memory:
        memory.content[16:21] = b"guest"
        assert bytes(ffi.buffer(ffi.cast("char *", memory.host_address + 16), 5)) == b"guest"


def test_memory_is_refused_by_what_is_no_machine() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    with GuestMemory(4096) as memory, Vm(null, 0) as vm, pytest.raises(KvmError, match="KVM_SET_USER_MEMORY_REGION"):
        vm.add_memory(0, 0, memory)
