"""What every part of KVM is: a descriptor that takes ioctls."""

from __future__ import annotations

import os
from enum import IntEnum
from types import TracebackType
from typing import Any, Self

from compute_agent.errors import KvmError
from compute_agent.virt.kvm.abi import ffi

CData = Any
"""A structure or pointer of cffi's."""

kernel = ffi.dlopen(None)

_IN, _OUT = 1 << 30, 2 << 30
"""The kernel reads, and writes, the structure."""


def _number(number: int, structure: str = "", direction: int = 0) -> int:
    return direction | (ffi.sizeof(f"struct {structure}") if structure else 0) << 16 | 0xAE00 | number


class Request(IntEnum):
    """The ioctls, under the kernel's names."""

    KVM_GET_API_VERSION = _number(0x00)
    KVM_CREATE_VM = _number(0x01)
    KVM_CHECK_EXTENSION = _number(0x03)
    KVM_GET_VCPU_MMAP_SIZE = _number(0x04)
    KVM_GET_SUPPORTED_CPUID = _number(0x05, "kvm_cpuid2", _IN | _OUT)
    KVM_CREATE_VCPU = _number(0x41)
    KVM_SET_USER_MEMORY_REGION = _number(0x46, "kvm_userspace_memory_region", _IN)
    KVM_RUN = _number(0x80)
    KVM_GET_REGS = _number(0x81, "kvm_regs", _OUT)
    KVM_SET_REGS = _number(0x82, "kvm_regs", _IN)
    KVM_GET_SREGS = _number(0x83, "kvm_sregs", _OUT)
    KVM_SET_SREGS = _number(0x84, "kvm_sregs", _IN)
    KVM_SET_CPUID2 = _number(0x90, "kvm_cpuid2", _IN)


class KvmHandle:
    """Owns its descriptor, which `close` or the end of a ``with`` block closes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """May be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def ask(self, request: Request, argument: CData = ffi.NULL) -> int:
        """The kernel's answer, 0 or above.

        :param argument: a pointer to the request's structure, or a number where it takes one.
        :raises KvmError: it refuses; says which request and why.
        """
        if isinstance(argument, int):
            argument = ffi.cast("void *", argument)
        answer: int = kernel.ioctl(self._fd, request, argument)
        if answer < 0:
            raise refusal(request)
        return answer


def refusal(request: Request) -> KvmError:
    """What the kernel has just said no to, and why."""
    return KvmError(request.name, os.strerror(ffi.errno))
