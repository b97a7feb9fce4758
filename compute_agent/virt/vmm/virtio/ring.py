"""Serving a virtqueue here, for devices that have little to do.

Source: virtio 1.2, 2.7.5 (descriptors, also indirect ones), 2.7.6 (available ring), 2.7.8 (used ring) and 2.7.10
(which notifications the device wants).
"""

from __future__ import annotations

import struct
import threading

import msgspec

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.queue import Queue

_NEXT, _WRITABLE, _INDIRECT = 1, 2, 4
_DESCRIPTOR = struct.Struct("<QIHH")
_USED = struct.Struct("<II")
_RING = 4
"""Where entries begin in either ring; the counter is two bytes before."""
_fence = threading.Lock()
"""What a processor does before somebody takes a lock, others see before what it does afterwards."""


class Chain(msgspec.Struct):
    """A buffer in pieces: address and length of each."""

    head: int
    readable: list[tuple[int, int]] = msgspec.field(default_factory=list)
    writable: list[tuple[int, int]] = msgspec.field(default_factory=list)


class Ring:
    """What the driver has made available, one chain after the other."""

    def __init__(self, ram: GuestRam, queue: Queue) -> None:
        self._ram = ram
        self._queue = queue

    def take(self) -> Chain | None:
        """The next one; None: nothing is left.

        :raises DeviceError: the driver has made a mess of the queue; nothing was taken.
        :raises BadGuestAddress: it points to what is not memory.
        """
        queue = self._queue
        self._write_16(queue.used + _RING + _USED.size * queue.size, queue.next)  # tell us of the next one
        with _fence:
            pass
        waiting = self._read_16(queue.available + 2) - queue.next & 0xFFFF
        if waiting > queue.size:
            raise DeviceError(f"queue {queue.number} has {waiting} buffers, and room for {queue.size}")
        if not waiting:
            return None
        chain = self._follow(self._read_16(queue.available + _RING + 2 * (queue.next % queue.size)))
        queue.next = queue.next + 1 & 0xFFFF
        return chain

    def give_back(self, chain: Chain, written: int) -> None:
        """The driver's again; `written` bytes from its beginning on are new.

        :raises BadGuestAddress: the queue is not in memory.
        """
        queue = self._queue
        count = self._read_16(queue.used + 2)
        self._ram.write(queue.used + _RING + _USED.size * (count % queue.size), _USED.pack(chain.head, written))
        self._write_16(queue.used + 2, count + 1 & 0xFFFF)

    def read(self, chain: Chain, most: int) -> bytes:
        """What the driver sent, `most` bytes of it at most."""
        content = b""
        for address, length in chain.readable:
            content += self._ram.read(address, min(length, most - len(content)))
        return content

    def write(self, chain: Chain, content: bytes) -> int:
        """As much as there is room for; how many bytes."""
        written = 0
        for address, length in chain.writable:
            piece = content[written : written + length]
            self._ram.write(address, piece)
            written += len(piece)
        return written

    def _follow(self, head: int) -> Chain:
        chain, place = Chain(head), head
        table, count = self._queue.descriptors, self._queue.size
        for _ in range(self._queue.size + 1):
            if place >= count:
                break
            at = table + _DESCRIPTOR.size * place
            address, length, flags, place = _DESCRIPTOR.unpack(self._ram.read(at, _DESCRIPTOR.size))
            if flags & _INDIRECT:
                table, count, place = address, length // _DESCRIPTOR.size, 0
                continue
            (chain.writable if flags & _WRITABLE else chain.readable).append((address, length))
            if not flags & _NEXT:
                return chain
        raise DeviceError(f"queue {self._queue.number} has a buffer without an end")

    def _read_16(self, address: int) -> int:
        return int.from_bytes(self._ram.read(address, 2), "little")

    def _write_16(self, address: int, value: int) -> None:
        self._ram.write(address, value.to_bytes(2, "little"))
