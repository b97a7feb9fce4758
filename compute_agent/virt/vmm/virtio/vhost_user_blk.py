"""A disk whose requests are served by another process, such as qemu-storage-daemon.

Sources: virtio 1.2, 5.2 (block device); QEMU's docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.device import VERSION_1, DeviceType, VirtioDevice
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.vhost import give_queue, under_way
from compute_agent.virt.vmm.virtio.vhost_user import VhostUserServer

DRAIN_SECONDS = 10
"""For requests that are under way when a guest stops."""
_QUEUE_SIZE = 256
_CONFIGURATION_SIZE = 60
_LOOK_AGAIN_SECONDS = 0.001
_SECTOR = 512
_CAPACITY = struct.Struct("<Q")
"""The first field, in sectors."""

_SIZE_MAX, _SEG_MAX, _GEOMETRY, _READ_ONLY, _BLOCK_SIZE = 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 6
_FLUSH, _TOPOLOGY, _QUEUES, _DISCARD, _WRITE_ZEROES = 1 << 9, 1 << 10, 1 << 12, 1 << 13, 1 << 14
_INDIRECT, _EVENT_INDEX = 1 << 28, 1 << 29
_PASSED_ON = (VERSION_1 | _SIZE_MAX | _SEG_MAX | _GEOMETRY | _READ_ONLY | _BLOCK_SIZE | _FLUSH | _TOPOLOGY) | (
    _QUEUES | _DISCARD | _WRITE_ZEROES | _INDIRECT | _EVENT_INDEX
)
"""What a server can do that needs nothing of us."""


class VhostUserBlock(VirtioDevice):
    """Nothing of a request passes through this process.

    When the server dies while it has nothing to do, `reconnect` to another one goes unnoticed by the guest.

    :raises DeviceError: nobody serves it.
    """

    type = DeviceType.BLOCK

    def __init__(self, connection: socket.socket, ram: GuestRam) -> None:
        """It owns the socket, which is connected; closed if this raises."""
        self._ram = ram
        self._server = VhostUserServer(connection)
        self._started: list[Queue] = []
        self._features = 0
        self.features = self._server.features & _PASSED_ON
        self.queue_sizes = (_QUEUE_SIZE,) * self._server.queues
        self._configuration = self._server.configuration(_CONFIGURATION_SIZE)

    def fileno(self) -> int:
        """To be watched: hangs up when the server goes; -1 after that."""
        return self._server.fileno()

    @property
    def is_served(self) -> bool:
        """The server has not hung up."""
        if self.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLRDHUP)
        return not poll.poll(0)

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""
        sectors: int = _CAPACITY.unpack_from(self._configuration)[0]
        return sectors * _SECTOR

    def configuration(self) -> bytes:
        return self._configuration

    def resize(self, size: int) -> None:
        """The disk has `size` bytes now, served already; the driver is to be told of the change.

        The server is not asked: QEMU's forgets to look before version 8.0.
        """
        self._configuration = _CAPACITY.pack(size // _SECTOR) + self._configuration[_CAPACITY.size :]

    def reconnect(self, connection: socket.socket) -> None:
        """Let another server, to which `connection` is connected, serve the same disk; while it is stopped.

        :raises DeviceError: it is not fit for that; the device is as it was.
        """
        server = VhostUserServer(connection)
        if self.features & ~server.features or server.queues < len(self.queue_sizes):
            server.close()
            raise DeviceError("the new server of a disk can do less than the one before")
        configuration = server.configuration(_CONFIGURATION_SIZE)
        self._server.close()
        self._server, self._configuration = server, configuration

    def start(self, queues: Sequence[Queue], features: int) -> None:
        self._features = features
        self._server.set_features(features, self._ram.log)
        self._server.share_memory(self._ram)
        self._started = [queue for queue in queues if queue.is_enabled]
        for queue in self._started:
            give_queue(self._server, queue.number, queue)
            self._server.enable(queue.number)
            queue.wake()

    def stop(self, queues: Sequence[Queue]) -> None:
        started, self._started = self._started, []
        for queue in started:
            try:
                queue.next = self._server.stop(queue.number)
            except DeviceError as error:
                self._find_place(queue, error)
        for queue in started:
            self._wait_for_last(queue)

    def call_changed(self, queue: Queue) -> None:
        self._server.set_call(queue.number, queue.call)

    def log_changed(self) -> None:
        self._server.set_features(self._features, self._ram.log)

    def close(self) -> None:
        self._server.close()

    def _find_place(self, queue: Queue, error: DeviceError) -> None:
        """Without a server, what is not used may be done or not, in any order."""
        available, used = under_way(self._ram, queue)
        if available != used:
            raise DeviceError(f"{error}; it had {available - used & 0xFFFF} requests of queue {queue.number}")
        queue.next = used

    def _wait_for_last(self, queue: Queue) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while under_way(self._ram, queue)[1] != queue.next:
            if time.monotonic() > deadline:
                self._server.close()
                raise DeviceError(f"requests of queue {queue.number} were not finished in {DRAIN_SECONDS} s")
            time.sleep(_LOOK_AGAIN_SECONDS)
