"""What the binding says where KVM is not there or refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compute_agent.errors import KvmError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.device import Device
from compute_agent.virt.kvm.handle import KvmHandle
from compute_agent.virt.kvm.memory import GuestMemory
from compute_agent.virt.kvm.vm import Vm


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
