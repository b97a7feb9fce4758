"""What is behind a virtio device's base address register, beside the common registers: a page for each part.

Source: virtio 1.2, 4.1.4.4 (notification), 4.1.4.5 (ISR status) and 4.1.4.6 (device-specific configuration).
"""

from __future__ import annotations

import os

from compute_agent.virt.vmm.address_space import Region
from compute_agent.virt.vmm.virtio.device import VirtioDevice
from compute_agent.virt.vmm.virtio.status import Agreement

PAGE = 0x1000
NOTIFY_STEP = 4
"""Bytes from one queue's place to the next one's."""
_CONFIGURATION_CHANGED = 2


class Pages:
    """A page for each part."""

    def __init__(self, parts: list[Region]) -> None:
        self._parts = parts

    def read(self, offset: int, size: int) -> int:
        return self._parts[offset // PAGE].read(offset % PAGE, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._parts[offset // PAGE].write(offset % PAGE, size, value)


class Isr:
    """Why an interrupt pin would interrupt. There is none, and who serves queues does not say so here."""

    def __init__(self) -> None:
        self.has_changed = False
        """The configuration, since the driver asked last."""

    def read(self, offset: int, size: int) -> int:
        if offset != 0 or not self.has_changed:
            return 0
        self.forget()
        return _CONFIGURATION_CHANGED

    def write(self, offset: int, size: int, value: int) -> None:
        """The driver only reads it."""

    def forget(self) -> None:
        """As after a reset."""
        self.has_changed = False


class DeviceRegisters:
    """The type's own."""

    def __init__(self, device: VirtioDevice) -> None:
        self._device = device

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self._device.configuration()[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """None of ours has a field that the driver may write."""


class NotifyRegisters:
    """A place for each queue. KVM knows of most of them, so that this is rarely asked."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        number = offset // NOTIFY_STEP
        if number >= len(self._agreement.queues):
            return
        kick = self._agreement.queues[number].kick
        if kick is None:
            self._agreement.notified(number)
        else:
            os.eventfd_write(kick, 1)
