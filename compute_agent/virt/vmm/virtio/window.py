"""Registers reached through the configuration space, for firmware that cannot reach memory.

Source: virtio 1.2, 4.1.4.9 (PCI configuration access capability).
"""

from __future__ import annotations

import struct

from compute_agent.virt.vmm.address_space import Region
from compute_agent.virt.vmm.pci.device import PciDevice

_VENDOR_CAPABILITY, _LENGTH, _TYPE = 0x09, 20, 5
_BAR, _OFFSET, _SIZE, _DATA = 4, 8, 12, 16
"""Fields, from where the capability begins."""


class RegisterWindow:
    """Which register, how wide, and its value."""

    def __init__(self, function: PciDevice, registers: Region, size: int) -> None:
        """:param size: of `registers`, which are at base address register 0."""
        self._configuration = function.configuration
        self._registers = registers
        self._registers_size = size
        body = struct.pack("<BBBxxxIII", _LENGTH, _TYPE, 0, 0, 0, 0)
        self._place = self._configuration.add_capability(_VENDOR_CAPABILITY, body)
        self._configuration.allow(self._place + _BAR, 1, 0xFF)
        for field in (_OFFSET, _SIZE, _DATA):
            self._configuration.allow(self._place + field, 4, 0xFFFFFFFF)

    def before_read(self, offset: int, size: int) -> None:
        """If it is the value that is read, fetch it."""
        target = self._target(offset, size)
        if target:
            value = self._registers.read(*target) & (1 << 8 * target[1]) - 1
            self._configuration.set(self._place + _DATA, 4, value)

    def written(self, offset: int, size: int) -> None:
        """If it is the value that was written, pass it on."""
        target = self._target(offset, size)
        if target:
            self._registers.write(*target, self._configuration.get(self._place + _DATA, target[1]))

    def _target(self, offset: int, size: int) -> tuple[int, int] | None:
        """Offset and width of the register that is meant, if any."""
        if not offset <= self._place + _DATA < offset + size:
            return None
        bar, register, width = (self._configuration.get(self._place + field, 4) for field in (_BAR, _OFFSET, _SIZE))
        fits = width in (1, 2, 4) and register % width == 0 and register + width <= self._registers_size
        return (register, width) if fits and bar & 0xFF == 0 else None
