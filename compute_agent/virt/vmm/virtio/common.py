"""The registers through which a driver sets a device up.

Source: virtio 1.2, 4.1.4.3 (common configuration structure).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from compute_agent.virt.vmm.pci.msix import Msix
from compute_agent.virt.vmm.virtio.queue import NO_CALL, NO_VECTOR, Queue
from compute_agent.virt.vmm.virtio.status import DRIVER_OK, Agreement

_LOW = 0xFFFFFFFF


class CommonState(msgspec.Struct, frozen=True):
    """What survives a suspension: what the driver has selected."""

    device_half: int
    driver_half: int
    queue: int
    config_vector: int


class Register(IntEnum):
    """Offsets; the last three are 64 bits wide and may be accessed by halves."""

    DEVICE_FEATURE_SELECT = 0x00
    DEVICE_FEATURE = 0x04
    DRIVER_FEATURE_SELECT = 0x08
    DRIVER_FEATURE = 0x0C
    CONFIG_VECTOR = 0x10
    QUEUES = 0x12
    STATUS = 0x14
    GENERATION = 0x15
    QUEUE_SELECT = 0x16
    QUEUE_SIZE = 0x18
    QUEUE_VECTOR = 0x1A
    QUEUE_ENABLE = 0x1C
    QUEUE_NOTIFY = 0x1E
    QUEUE_DESCRIPTORS = 0x20
    QUEUE_AVAILABLE = 0x28
    QUEUE_USED = 0x30


_ADDRESSES = range(Register.QUEUE_DESCRIPTORS, Register.QUEUE_USED + 8)
_ADDRESS_NAMES = ("descriptors", "available", "used")


class CommonRegisters:
    """A region."""

    def __init__(self, agreement: Agreement, msix: Msix, was_reset: Callable[[], None]) -> None:
        """:param was_reset: called after the driver has reset the device."""
        self._agreement = agreement
        self._msix = msix
        self._was_reset = was_reset
        self.config_vector = NO_VECTOR
        self._device_half = self._driver_half = self._queue = 0
        self._readers: dict[int, Callable[[], int]] = {
            Register.DEVICE_FEATURE_SELECT: lambda: self._device_half,
            Register.DEVICE_FEATURE: lambda: _half(agreement.device.features, self._device_half),
            Register.DRIVER_FEATURE_SELECT: lambda: self._driver_half,
            Register.DRIVER_FEATURE: lambda: _half(agreement.features, self._driver_half),
            Register.CONFIG_VECTOR: lambda: self.config_vector,
            Register.QUEUES: lambda: len(agreement.queues),
            Register.STATUS: lambda: agreement.status,
            Register.GENERATION: lambda: agreement.generation,
            Register.QUEUE_SELECT: lambda: self._queue,
        }
        self._queue_readers: dict[int, Callable[[Queue], int]] = {
            Register.QUEUE_SIZE: lambda queue: queue.size,
            Register.QUEUE_VECTOR: lambda queue: queue.vector,
            Register.QUEUE_ENABLE: lambda queue: int(queue.is_enabled),
            Register.QUEUE_NOTIFY: lambda queue: queue.number,
        }
        self._writers: dict[int, Callable[[int], None]] = {
            Register.DEVICE_FEATURE_SELECT: lambda value: setattr(self, "_device_half", value & _LOW),
            Register.DRIVER_FEATURE_SELECT: lambda value: setattr(self, "_driver_half", value & _LOW),
            Register.DRIVER_FEATURE: self._set_features,
            Register.CONFIG_VECTOR: lambda value: setattr(self, "config_vector", self._vector(value)),
            Register.STATUS: self._set_status,
            Register.QUEUE_SELECT: lambda value: setattr(self, "_queue", value & 0xFFFF),
        }
        self._queue_writers: dict[int, Callable[[Queue, int], None]] = {
            Register.QUEUE_SIZE: _set_size,
            Register.QUEUE_VECTOR: self._set_vector,
            Register.QUEUE_ENABLE: self._enable,
        }

    def read(self, offset: int, size: int) -> int:
        if offset in self._readers:
            return self._readers[offset]()
        queue = self._selected()
        if queue is None:
            return 0
        if offset in _ADDRESSES:
            which, byte = divmod(offset - _ADDRESSES.start, 8)
            address: int = getattr(queue, _ADDRESS_NAMES[which])
            return address >> 8 * byte
        return self._queue_readers[offset](queue) if offset in self._queue_readers else 0

    def write(self, offset: int, size: int, value: int) -> None:
        queue = self._selected()
        if offset in self._writers:
            self._writers[offset](value)
        elif queue is None or (self._agreement.status & DRIVER_OK and offset != Register.QUEUE_VECTOR):
            return
        elif offset in _ADDRESSES and not queue.is_enabled:
            _set_address(queue, offset - _ADDRESSES.start, size, value)
        elif offset in self._queue_writers:
            self._queue_writers[offset](queue, value & 0xFFFF)

    def reset(self) -> None:
        """As after power-on."""
        self._device_half = self._driver_half = self._queue = 0
        self.config_vector = NO_VECTOR

    def state(self) -> CommonState:
        return CommonState(self._device_half, self._driver_half, self._queue, self.config_vector)

    def restore(self, state: CommonState) -> None:
        """After the agreement, whose queues interrupt by their vectors' eventfds again."""
        self._device_half, self._driver_half, self._queue = state.device_half, state.driver_half, state.queue
        self.config_vector = state.config_vector
        for queue in self._agreement.queues:
            self._set_vector(queue, queue.vector)

    def _selected(self) -> Queue | None:
        queues = self._agreement.queues
        return queues[self._queue] if self._queue < len(queues) else None

    def _vector(self, value: int) -> int:
        return value & 0xFFFF if self._msix.message(value & 0xFFFF) else NO_VECTOR

    def _set_features(self, value: int) -> None:
        if self._driver_half < 2:
            shift = 32 * self._driver_half
            kept = self._agreement.features & ~(_LOW << shift)
            self._agreement.set_features(kept | (value & _LOW) << shift)

    def _set_status(self, value: int) -> None:
        self._agreement.set_status(value & 0xFF)
        if not value & 0xFF:
            self.reset()
            self._was_reset()

    def _set_vector(self, queue: Queue, value: int) -> None:
        queue.vector = self._vector(value)
        message = self._msix.message(queue.vector)
        self._agreement.set_call(queue, message.fd if message else NO_CALL)

    def _enable(self, queue: Queue, value: int) -> None:
        queue.is_enabled = queue.is_enabled or value == 1


def _half(features: int, which: int) -> int:
    return features >> 32 * which & _LOW if which < 2 else 0


def _set_size(queue: Queue, value: int) -> None:
    if not queue.is_enabled and 0 < value <= queue.largest and value & value - 1 == 0:
        queue.size = value


def _set_address(queue: Queue, offset: int, size: int, value: int) -> None:
    which, byte = divmod(offset, 8)
    mask = ((1 << 8 * size) - 1) << 8 * byte & (1 << 64) - 1
    address: int = getattr(queue, _ADDRESS_NAMES[which])
    setattr(queue, _ADDRESS_NAMES[which], address & ~mask | value << 8 * byte & mask)
