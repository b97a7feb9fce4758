"""MSI-X: the table in which a guest says where each of a function's interrupts goes.

Source: PCI Local Bus Specification 3.0, 6.8.2 (structure) and 6.8.3 (masking, pending bits).
"""

from __future__ import annotations

import struct

import msgspec

from compute_agent.virt.vmm.interrupts import Interrupts, Message
from compute_agent.virt.vmm.pci.device import PciDevice

MOST_VECTORS = 128
_CAPABILITY, _CONTROL = 0x11, 2
_ENABLED, _ALL_MASKED = 0x8000, 0x4000
_PENDING_BITS = 16 * MOST_VECTORS
_BAR_SIZE = 4096
_MASKED = 1
_ENTRY = struct.Struct("<QII")
_MESSAGE_ADDRESSES = 0xFEE
"""Their upper bits, on x86; a write to anywhere else would be none to an interrupt controller."""


class MsixState(msgspec.Struct, frozen=True):
    """What survives a suspension; pending are those sent that the guest has not let through."""

    table: bytes
    pending: list[int]


class Msix:
    """Table and pending bits are registers of their own; the capability is the function's."""

    def __init__(self, function: PciDevice, bar: int, interrupts: Interrupts, vectors: int) -> None:
        """:param vectors: 1 to `MOST_VECTORS`."""
        self.messages = [interrupts.message() for _ in range(vectors)]
        self._table = bytearray(_ENTRY.size * vectors)
        self._function = function
        body = struct.pack("<HII", vectors - 1, bar, _PENDING_BITS | bar)
        self._capability = function.configuration.add_capability(_CAPABILITY, body)
        function.configuration.allow(self._capability + _CONTROL, 2, _ENABLED | _ALL_MASKED)
        function.add_bar(bar, _BAR_SIZE, self)
        self.reset()

    def message(self, vector: int) -> Message | None:
        """None: there is no such vector, or the guest wants none."""
        return self.messages[vector] if vector < len(self.messages) else None

    def read(self, offset: int, size: int) -> int:
        if offset < _PENDING_BITS:
            return int.from_bytes(self._table[offset : offset + size], "little")
        pending = sum(1 << vector for vector, message in enumerate(self.messages) if message.is_pending)
        return pending >> 8 * (offset - _PENDING_BITS) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        if offset + size <= len(self._table):
            self._table[offset : offset + size] = value.to_bytes(size, "little")
            for vector in range(offset // _ENTRY.size, (offset + size - 1) // _ENTRY.size + 1):
                self._apply(vector)

    def control_written(self, offset: int, size: int) -> None:
        """The guest wrote to the configuration space; perhaps it turned everything on or off."""
        if offset < self._capability + _CONTROL + 2 and offset + size > self._capability + _CONTROL:
            self._apply_all()

    def reset(self) -> None:
        """All masked, none pending."""
        self._function.configuration.set(self._capability + _CONTROL, 2, len(self.messages) - 1)
        for vector in range(len(self.messages)):
            _ENTRY.pack_into(self._table, _ENTRY.size * vector, 0, 0, _MASKED)
        self._apply_all()
        for message in self.messages:
            message.forget_pending()

    def close(self) -> None:
        """The function is gone for good."""
        for message in self.messages:
            message.close()

    def state(self) -> MsixState:
        pending = [vector for vector, message in enumerate(self.messages) if message.is_pending]
        return MsixState(bytes(self._table), pending)

    def restore(self, state: MsixState) -> None:
        """After the configuration space."""
        self._table[:] = state.table[: len(self._table)].ljust(len(self._table), b"\0")
        for vector in state.pending:
            self.messages[vector].send()
        self._apply_all()

    def _apply_all(self) -> None:
        for vector in range(len(self.messages)):
            self._apply(vector)

    def _apply(self, vector: int) -> None:
        control = self._function.configuration.get(self._capability + _CONTROL, 2)
        address, data, masked = _ENTRY.unpack_from(self._table, _ENTRY.size * vector)
        is_on = control & (_ENABLED | _ALL_MASKED) == _ENABLED and not masked & _MASKED
        if is_on and address >> 20 == _MESSAGE_ADDRESSES:
            self.messages[vector].deliver(address, data)
        else:
            self.messages[vector].hold()
