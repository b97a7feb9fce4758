"""A split virtqueue, as the guest's driver has set it up.

Source: virtio 1.2, 2.7 (split virtqueues) and 4.1.5.1.3 (how the driver sets one up).
"""

from __future__ import annotations

import os
from typing import Self

import msgspec

NO_VECTOR = 0xFFFF
NO_CALL = -1


class QueueState(msgspec.Struct, frozen=True):
    """What survives a suspension."""

    size: int
    descriptors: int
    available: int
    used: int
    is_enabled: bool
    vector: int
    next: int


class Queue(msgspec.Struct):
    """Addresses are the guest's, and not to be trusted."""

    number: int
    largest: int
    size: int
    kick: int | None = None
    """The eventfd that tells who serves it that there is work; None: a call of ours does."""
    descriptors: int = 0
    available: int = 0
    used: int = 0
    is_enabled: bool = False
    vector: int = NO_VECTOR
    call: int = NO_CALL
    """The eventfd that interrupts the guest; `NO_CALL`: it does not want to be."""
    next: int = 0
    """How many buffers were taken, modulo 65536. Whoever serves it knows better while it runs."""

    @classmethod
    def new(cls, number: int, largest: int, has_kick: bool) -> Self:
        """As after a reset, the size the largest possible: some firmware never sets it."""
        kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if has_kick else None
        return cls(number, largest, largest, kick)

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Address and length of its three parts in guest memory."""
        return [
            (self.descriptors, 16 * self.size),
            (self.available, 6 + 2 * self.size),
            (self.used, 6 + 8 * self.size),
        ]

    def interrupt(self) -> None:
        """Buffers have been used."""
        if self.call != NO_CALL:
            os.eventfd_write(self.call, 1)

    def wake(self) -> None:
        """Somebody begins to serve it, perhaps amid its work: what was told to who served it before is told again."""
        assert self.kick is not None
        os.eventfd_write(self.kick, 1)
        self.interrupt()

    def reset(self) -> None:
        self.restore(QueueState(self.largest, 0, 0, 0, False, NO_VECTOR, 0))
        self.call = NO_CALL

    def state(self) -> QueueState:
        return QueueState(
            self.size, self.descriptors, self.available, self.used, self.is_enabled, self.vector, self.next
        )

    def restore(self, state: QueueState) -> None:
        self.size = state.size
        self.descriptors, self.available, self.used = state.descriptors, state.available, state.used
        self.is_enabled, self.vector, self.next = state.is_enabled, state.vector, state.next

    def close(self) -> None:
        """May be repeated."""
        if self.kick is not None:
            os.close(self.kick)
            self.kick = None
