"""What the kernel's vhost and a vhost-user server have in common: how somebody else is told to serve a queue.

Source: <linux/vhost.h>; QEMU's docs/interop/vhost-user.rst, whose messages are the same.
"""

from __future__ import annotations

import struct
from typing import Protocol

from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.queue import Queue

MEMORY_HEADER = struct.Struct("<II")
MEMORY_REGION = struct.Struct("<QQQQ")
VRING_STATE = struct.Struct("<II")
VRING_ADDRESS = struct.Struct("<IIQQQQ")


class Server(Protocol):
    """Queues are numbered from 0 in each server. Each method raises DeviceError if the server refuses."""

    def set_size(self, number: int, size: int) -> None:
        """How many descriptors."""

    def set_next(self, number: int, next_buffer: int) -> None:
        """Which buffer to begin with, modulo 65536."""

    def set_addresses(self, number: int, queue: Queue) -> None:
        """Where its parts are."""

    def set_kick(self, number: int, fd: int) -> None:
        """Tells that there is work."""

    def set_call(self, number: int, fd: int) -> None:
        """Interrupts the guest; `NO_CALL`: nobody is to be."""


def give_queue(server: Server, number: int, queue: Queue) -> None:
    """Everything that the server has to know of it; what begins the work comes last.

    :raises DeviceError: it refuses.
    """
    assert queue.kick is not None
    server.set_size(number, queue.size)
    server.set_next(number, queue.next)
    server.set_addresses(number, queue)
    server.set_call(number, queue.call)
    server.set_kick(number, queue.kick)


def under_way(ram: GuestRam, queue: Queue) -> tuple[int, int]:
    """How many buffers the driver has made available, and how many are used, both modulo 65536.

    :raises BadGuestAddress: the queue is not in memory.
    """
    available, used = (ram.read(place + 2, 2) for place in (queue.available, queue.used))
    return int.from_bytes(available, "little"), int.from_bytes(used, "little")
