"""What CPUID answers on each processor: the host's, but for where the processor stands among the guest's own.

Sources: Linux's Documentation/virt/kvm/api.rst (KVM_GET_SUPPORTED_CPUID); AMD64 Architecture Programmer's Manual 3,
appendix E; Intel 64 Software Developer's Manual 2A, CPUID. All processors are cores of one package, without threads.
"""

from __future__ import annotations

from collections.abc import Callable

from compute_agent.virt.kvm.handle import CData

_HYPERVISOR, _DEADLINE_TIMER, _SEVERAL = 1 << 31, 1 << 24, 1 << 28
_THREADS, _CORES = 1, 2
"""Levels of the topology."""


class ProcessorIdentity:
    """One of `count` processors; its APIC id is its number."""

    def __init__(self, number: int, count: int, *, has_deadline_timer: bool) -> None:
        self._number = number
        self._count = count
        self._has_deadline_timer = has_deadline_timer
        self._changes: dict[int, Callable[[CData], None]] = {
            0x1: self._basics,
            0x4: self._intel_cores,
            0xB: self._topology,
            0x1F: self._topology,
            0x80000008: self._amd_cores,
            0x8000001E: self._amd_topology,
        }

    def apply(self, table: CData) -> None:
        """Change a ``struct kvm_cpuid2 *`` of what the host supports. It may be another processor's already."""
        for place in range(table.nent):
            entry = table.entries[place]
            if entry.function in self._changes:
                self._changes[entry.function](entry)

    def _basics(self, entry: CData) -> None:
        entry.ebx = entry.ebx & 0xFF00 | self._number << 24 | self._count << 16
        entry.ecx |= _HYPERVISOR | (_DEADLINE_TIMER if self._has_deadline_timer else 0)
        entry.edx = entry.edx & ~_SEVERAL | (_SEVERAL if self._count > 1 else 0)

    def _intel_cores(self, entry: CData) -> None:
        if entry.eax & 0x1F:  # a cache, not shared with other processors
            entry.eax = entry.eax & 0x3FFF | self._count - 1 << 26

    def _topology(self, entry: CData) -> None:
        entry.eax, entry.ebx, entry.ecx = 0, 0, entry.index
        if entry.index == 0:
            entry.ebx, entry.ecx = 1, _THREADS << 8
        elif entry.index == 1:
            entry.eax, entry.ebx, entry.ecx = self._id_bits, self._count, _CORES << 8 | 1
        entry.edx = self._number

    def _amd_cores(self, entry: CData) -> None:
        entry.ecx = self._id_bits << 12 | self._count - 1

    def _amd_topology(self, entry: CData) -> None:
        entry.eax, entry.ebx, entry.ecx = self._number, self._number & 0xFF, 0

    @property
    def _id_bits(self) -> int:
        return (self._count - 1).bit_length()
