"""What every virtio device is to its transport.

Source: virtio 1.2, 2.1 to 2.5 (the parts of a device), 5 (device types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from compute_agent.virt.vmm.virtio.queue import Queue

VERSION_1 = 1 << 32
"""The feature that says: not a legacy device."""


class DeviceType(IntEnum):
    """Ours."""

    NETWORK = 1
    BLOCK = 2
    ENTROPY = 4


class VirtioDevice:
    """Its methods are called one at a time, under the machine's lock."""

    type: DeviceType
    features: int
    """All that it can do; a driver takes a part of it."""
    queue_sizes: Sequence[int]
    """The most that each queue can hold, a power of two."""

    def has_notifier(self, queue: int) -> bool:
        """Whoever serves the queue waits for its eventfd; else `notified` is called."""
        return True

    def accepts(self, features: int) -> bool:
        """Some features make no sense without others; `features` are among its own."""
        return True

    def configuration(self) -> bytes:
        """The type's own fields, which the driver reads."""
        return b""

    def start(self, queues: Sequence[Queue], features: int) -> None:
        """Serve the queues that are enabled, from `Queue.next` on.

        :raises DeviceError: that cannot be; nothing is served.
        """
        raise NotImplementedError

    def stop(self, queues: Sequence[Queue]) -> None:
        """Touch the guest's memory no more; each `Queue.next` is where to go on. May be repeated.

        :raises DeviceError: who served them does not say where; they do not serve any more.
        """
        raise NotImplementedError

    def was_reset(self) -> None:
        """By the driver or with the machine, and stopped before."""

    def notified(self, queue: Queue) -> None:
        """The driver has made buffers available.

        :raises MachineError: it has made a mess of the queue.
        """

    def call_changed(self, queue: Queue) -> None:
        """A queue that is served interrupts by another eventfd from now on.

        :raises DeviceError: it cannot be.
        """

    def log_changed(self) -> None:
        """The memory has a log now, or has none any more; who serves the queues is to keep to that.

        :raises DeviceError: it cannot be.
        """

    def state(self) -> Mapping[str, int]:
        """What survives a suspension, beyond what the transport knows."""
        return {}

    def restore(self, state: Mapping[str, int]) -> None:
        """Before `start`."""

    def close(self) -> None:
        """The device is gone for good, and stopped before. May be repeated."""
