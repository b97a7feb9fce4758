"""Randomness for the guest, from the host's kernel.

Source: virtio 1.2, 5.4 (entropy device).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.device import VERSION_1, DeviceType, VirtioDevice
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.ring import Ring

_QUEUE_SIZE = 64
_AT_ONCE = 4096
"""Bytes in one buffer; whoever wants more asks again."""


class Rng(VirtioDevice):
    """Filled while the guest's processor waits: it takes microseconds."""

    type = DeviceType.ENTROPY
    features = VERSION_1
    queue_sizes = (_QUEUE_SIZE,)

    def __init__(self, ram: GuestRam) -> None:
        self._ram = ram

    def has_notifier(self, queue: int) -> bool:
        return False

    def start(self, queues: Sequence[Queue], features: int) -> None:
        for queue in queues:
            if queue.is_enabled:
                self.notified(queue)

    def stop(self, queues: Sequence[Queue]) -> None:
        """Nothing is ever under way."""

    def notified(self, queue: Queue) -> None:
        ring = Ring(self._ram, queue)
        for _ in range(queue.size):
            chain = ring.take()
            if chain is None:
                break
            wanted = sum(length for _, length in chain.writable)
            ring.give_back(chain, ring.write(chain, os.urandom(min(wanted, _AT_ONCE))))
            queue.interrupt()
