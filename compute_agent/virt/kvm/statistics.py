"""What the kernel counts about a machine or a vCPU.

Source: Linux's Documentation/virt/kvm/api.rst (KVM_GET_STATS_FD).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from compute_agent.virt.kvm.handle import KvmHandle
from compute_agent.virt.kvm.requests import Request

_HEADER = struct.Struct("<6I")
_DESCRIPTOR = struct.Struct("<IhHII")
_VALUE = struct.Struct("<Q")
_MOST_VALUES = 1 << 16
"""Bytes; the kernel has some hundreds."""


def read_statistics(handle: KvmHandle) -> dict[str, int]:
    """The numbers of a `Vm` or `Vcpu` by the kernel's names; histograms are left out.

    :raises KvmError: the kernel has none.
    """
    fd = handle.ask(Request.KVM_GET_STATS_FD)
    try:
        return dict(_read(fd))
    finally:
        os.close(fd)


def _read(fd: int) -> Iterator[tuple[str, int]]:
    _, name_size, count, _, descriptors, data = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
    step = _DESCRIPTOR.size + name_size
    described, values = os.pread(fd, step * count, descriptors), os.pread(fd, _MOST_VALUES, data)
    for place in range(0, step * count, step):
        _, _, size, offset, _ = _DESCRIPTOR.unpack_from(described, place)
        name = described[place + _DESCRIPTOR.size : place + step].rstrip(b"\0").decode()
        if size == 1:
            yield name, _VALUE.unpack_from(values, offset)[0]
