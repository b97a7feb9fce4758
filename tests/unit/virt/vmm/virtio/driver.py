"""A guest's virtio driver: it knows its device through the bus and its queues through memory, as Linux does."""

from __future__ import annotations

import os
import select
import struct

from compute_agent.virt.vmm.virtio.common import Register
from compute_agent.virt.vmm.virtio.device import VERSION_1
from compute_agent.virt.vmm.virtio.pci import VirtioPci
from tests.unit.virt.vmm.parts import Function, Parts

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
NEXT, WRITABLE, INDIRECT = 1, 2, 4
COMMON, NOTIFY, ISR, DEVICE, WINDOW = 1, 2, 3, 4, 5
MESSAGES = 0xFEE00000
DEADLINE_SECONDS = 10


class DriverQueue:
    """Descriptors are used again when all have been: by then a test has everything back."""

    def __init__(self, driver: Driver, number: int, address: int, size: int) -> None:
        self.ram, self.driver, self.number, self.size = driver.parts.ram, driver, number, size
        self.descriptors, self.available, self.used = address, address + 0x1000, address + 0x2000
        self.buffers = self._first_buffer = address + 0x3000
        self._next_descriptor = self._seen = 0

    def add(self, *pieces: bytes | int) -> list[int]:
        """A buffer of bytes to be read, then of room for so many bytes; where each piece is."""
        if self._next_descriptor + len(pieces) > self.size:
            self._next_descriptor, self.buffers = 0, self._first_buffer
        head, places = self._next_descriptor, []
        for number, piece in enumerate(pieces, 1):
            content = piece if isinstance(piece, bytes) else bytes(piece)
            flags = (WRITABLE if isinstance(piece, int) else 0) | (NEXT if number < len(pieces) else 0)
            self.ram.write(self.buffers, content)
            places.append(self.buffers)
            self.describe(self._next_descriptor, self.buffers, len(content), flags, self._next_descriptor + 1)
            self.buffers += len(content)
            self._next_descriptor += 1
        self.offer(head)
        return places

    def describe(self, place: int, address: int, length: int, flags: int, following: int) -> None:
        self.ram.write(self.descriptors + 16 * place, struct.pack("<QIHH", address, length, flags, following))

    def offer(self, head: int) -> None:
        count = self._count(self.available)
        self.ram.write(self.available + 4 + 2 * (count % self.size), head.to_bytes(2, "little"))
        self.ram.write(self.available + 2, (count + 1 & 0xFFFF).to_bytes(2, "little"))

    def kick(self) -> None:
        self.driver.notify(self.number)

    def finished(self) -> list[tuple[int, int]]:
        """Head and written length of what came back since this was asked last."""
        count, found = self._count(self.used), []
        while self._seen != count:
            at = self.used + 4 + 8 * (self._seen % self.size)
            found.append(struct.unpack("<II", self.ram.read(at, 8)))
            self._seen = self._seen + 1 & 0xFFFF
        return found

    def wait(self) -> list[tuple[int, int]]:
        """The same, after an interrupt."""
        while not (found := self.finished()):
            self.driver.wait_for_interrupt(self.number)
        return found

    def _count(self, ring: int) -> int:
        return int.from_bytes(self.ram.read(ring + 2, 2), "little")


class Driver:
    """Vector n is queue n's; the last one is the configuration's."""

    def __init__(self, parts: Parts, function: VirtioPci) -> None:
        self.parts, self.device = parts, function
        slot = parts.bus.add(function)
        self.function, self.first_vector = Function(parts, slot), 0x40 + (slot << 8)
        self.function.enable()
        self.places = {}
        for kind, place in self.function.capabilities():
            if kind == 9:
                start = self.function.bar(self.function.read(place + 4, 1)) + self.function.read(place + 8, 4)
                self.places[self.function.read(place + 3, 1)] = place if self._is_window(place) else start
            else:
                self.msix = place
        self.queues: dict[int, DriverQueue] = {}

    def read(self, register: int, size: int) -> int:
        return self.parts.memory.read(self.places[COMMON] + register, size)

    def write(self, register: int, size: int, value: int) -> None:
        self.parts.memory.write(self.places[COMMON] + register, size, value)

    def configuration(self, offset: int, size: int) -> int:
        return self.parts.memory.read(self.places[DEVICE] + offset, size)

    def offered(self) -> int:
        features = 0
        for half in (0, 1):
            self.write(Register.DEVICE_FEATURE_SELECT, 4, half)
            features |= self.read(Register.DEVICE_FEATURE, 4) << 32 * half
        return features

    def agree(self, features: int = VERSION_1) -> bool:
        """As far as features; False: the device does not."""
        self.write(Register.STATUS, 1, 0)
        self.write(Register.STATUS, 1, ACKNOWLEDGE | DRIVER)
        for half in (0, 1):
            self.write(Register.DRIVER_FEATURE_SELECT, 4, half)
            self.write(Register.DRIVER_FEATURE, 4, features >> 32 * half & 0xFFFFFFFF)
        self.write(Register.STATUS, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK)
        return bool(self.read(Register.STATUS, 1) & FEATURES_OK)

    def set_vectors(self) -> None:
        self.function.write(self.msix + 2, 2, 0x8000)
        table = self.function.bar(1)
        vectors = (self.function.read(self.msix + 2, 2) & 0x7FF) + 1
        for vector in range(vectors):
            for place, value in enumerate((MESSAGES, 0, self.first_vector + vector, 0)):
                self.parts.memory.write(table + 16 * vector + 4 * place, 4, value)
        self.write(Register.CONFIG_VECTOR, 2, vectors - 1)

    def set_queue(self, number: int, address: int, size: int | None = None) -> DriverQueue:
        self.write(Register.QUEUE_SELECT, 2, number)
        if size is not None:
            self.write(Register.QUEUE_SIZE, 2, size)
        queue = DriverQueue(self, number, address, self.read(Register.QUEUE_SIZE, 2))
        self.write(Register.QUEUE_VECTOR, 2, number)
        parts = zip(
            (Register.QUEUE_DESCRIPTORS, Register.QUEUE_AVAILABLE, Register.QUEUE_USED),
            (queue.descriptors, queue.available, queue.used),
            strict=True,
        )
        for register, place in parts:
            self.write(register, 4, place & 0xFFFFFFFF)
            self.write(register + 4, 4, place >> 32)
        self.write(Register.QUEUE_ENABLE, 2, 1)
        self.queues[number] = queue
        return queue

    def go(self) -> int:
        """The status after the last step."""
        self.write(Register.STATUS, 1, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
        return self.read(Register.STATUS, 1)

    def set_up(self, features: int = VERSION_1, queues: int = 1, address: int = 0x100000) -> list[DriverQueue]:
        """All at once."""
        assert self.agree(features)
        self.set_vectors()
        made = [self.set_queue(number, address + 0x80000 * number) for number in range(queues)]
        assert self.go() & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK
        return made

    def notify(self, queue: int) -> None:
        self.parts.memory.write(self.places[NOTIFY] + 4 * queue, 2, queue)

    def interrupted(self, vector: int) -> bool:
        """Since this was asked last; takes the interrupt, as KVM does."""
        for fd, gsi in self.parts.kvm.connected.items():
            if (
                self.parts.kvm.messages[gsi] == (MESSAGES, self.first_vector + vector)
                and select.select([fd], [], [], 0)[0]
            ):
                os.eventfd_read(fd)
                return True
        return False

    def wait_for_interrupt(self, vector: int) -> None:
        (fd,) = (
            fd
            for fd, gsi in self.parts.kvm.connected.items()
            if self.parts.kvm.messages[gsi] == (MESSAGES, self.first_vector + vector)
        )
        assert select.select([fd], [], [], DEADLINE_SECONDS)[0], "no interrupt in time"
        os.eventfd_read(fd)

    def _is_window(self, place: int) -> bool:
        return self.function.read(place + 3, 1) == WINDOW
