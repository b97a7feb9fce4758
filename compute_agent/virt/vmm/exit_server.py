"""What a processor stopped for, answered: an access to a device, or the end.

Source: Linux's Documentation/virt/kvm/api.rst, 5 (the kvm_run structure).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compute_agent.errors import MachineError
from compute_agent.virt.kvm._binding import ffi
from compute_agent.virt.kvm.exits import ExitReason, describe_exit
from compute_agent.virt.kvm.handle import CData
from compute_agent.virt.vmm.address_space import AddressSpace

_IN = 0
_NOTHING_TO_DO = (ExitReason.KVM_EXIT_INTR, ExitReason.KVM_EXIT_IRQ_WINDOW_OPEN)


class ExitServer:
    """Called on the threads of all processors."""

    def __init__(self, shared: Sequence[CData], ports: AddressSpace, memory: AddressSpace, fell: Callable[[], None]):
        """:param shared: each processor's ``struct kvm_run *``, by its number.
        :param fell: a processor has failed so often that it resets the machine, as real ones do.
        """
        self._shared = shared
        self._ports = ports
        self._memory = memory
        self._fell = fell

    def __call__(self, number: int, reason: int) -> None:
        """:raises MachineError: the guest cannot go on."""
        shared = self._shared[number]
        if reason == ExitReason.KVM_EXIT_IO:
            self._access_port(shared)
        elif reason == ExitReason.KVM_EXIT_MMIO:
            self._access_memory(shared.mmio)
        elif reason == ExitReason.KVM_EXIT_SHUTDOWN:
            self._fell()
        elif reason not in _NOTHING_TO_DO:
            raise MachineError(describe_exit(shared))

    def _access_port(self, shared: CData) -> None:
        access = shared.io
        begin = ffi.cast("uint8_t *", shared) + access.data_offset
        data = memoryview(ffi.buffer(begin, access.size * access.count))
        for start in range(0, len(data), access.size):
            piece = data[start : start + access.size]
            if access.direction == _IN:
                piece[:] = self._ports.read(access.port, access.size).to_bytes(access.size, "little")
            else:
                self._ports.write(access.port, access.size, int.from_bytes(piece, "little"))

    def _access_memory(self, access: CData) -> None:
        size = access.len
        if access.is_write:
            self._memory.write(access.phys_addr, size, int.from_bytes(bytes(access.data)[:size], "little"))
        else:
            value = self._memory.read(access.phys_addr, size).to_bytes(size, "little")
            access.data[0:size] = value
