"""Telling vhost, in the kernel, to serve the two queues of a pair.

Sources: <linux/vhost.h>, <linux/vhost_types.h>.
"""

from __future__ import annotations

import fcntl
import os
import struct
from enum import IntEnum

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.queue import Queue
from compute_agent.virt.vmm.virtio.vhost import MEMORY_HEADER, MEMORY_REGION, VRING_ADDRESS, VRING_STATE
from compute_agent.virt.vmm.write_log import LOG_ALL

_VRING_FILE = struct.Struct("<Ii")
_FEATURES = _ADDRESS = struct.Struct("<Q")
_LOGGED = 1 << 0
"""A flag of a queue: what is written to its ring of used buffers."""
_NOBODY = -1
_WRITE, _READ = 1 << 30, 2 << 30


def _number(direction: int, number: int, size: int = 0) -> int:
    return direction | size << 16 | 0xAF00 | number


class Request(IntEnum):
    """The ioctls, under the kernel's names."""

    VHOST_GET_FEATURES = _number(_READ, 0x00, _FEATURES.size)
    VHOST_SET_FEATURES = _number(_WRITE, 0x00, _FEATURES.size)
    VHOST_SET_OWNER = _number(0, 0x01)
    VHOST_SET_MEM_TABLE = _number(_WRITE, 0x03, MEMORY_HEADER.size)
    VHOST_SET_LOG_BASE = _number(_WRITE, 0x04, _FEATURES.size)
    VHOST_SET_VRING_NUM = _number(_WRITE, 0x10, VRING_STATE.size)
    VHOST_SET_VRING_ADDR = _number(_WRITE, 0x11, VRING_ADDRESS.size)
    VHOST_SET_VRING_BASE = _number(_WRITE, 0x12, VRING_STATE.size)
    VHOST_GET_VRING_BASE = _number(_READ | _WRITE, 0x12, VRING_STATE.size)
    VHOST_SET_VRING_KICK = _number(_WRITE, 0x20, _VRING_FILE.size)
    VHOST_SET_VRING_CALL = _number(_WRITE, 0x21, _VRING_FILE.size)
    VHOST_NET_SET_BACKEND = _number(_WRITE, 0x30, _VRING_FILE.size)


class VhostNetServer:
    """An open /dev/vhost-net, which it owns.

    :raises DeviceError: it is another kind of file, or belongs to another process.
    """

    def __init__(self, fd: int, ram: GuestRam) -> None:
        self._fd = fd
        self._ram = ram
        features = bytearray(_FEATURES.size)
        self._ask(Request.VHOST_GET_FEATURES, features)
        self.features: int = _FEATURES.unpack(features)[0]
        """What it can do with queues; what it can do with packets is up to the tap."""
        self._ask(Request.VHOST_SET_OWNER, bytearray())

    def close(self) -> None:
        """May be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def set_features(self, features: int) -> None:
        """What the guest's driver has taken, of what concerns queues. What it writes is logged where a log is kept."""
        features &= self.features & ~LOG_ALL
        if self._ram.log is not None:
            self._ask(Request.VHOST_SET_LOG_BASE, bytearray(_ADDRESS.pack(self._ram.log.host_address)))
            features |= LOG_ALL
        self._ask(Request.VHOST_SET_FEATURES, bytearray(_FEATURES.pack(features)))

    def share_memory(self) -> None:
        """All of the guest's, at our own addresses."""
        regions = [
            MEMORY_REGION.pack(region.guest_address, region.size, self._ram.host_address(region), 0)
            for region in self._ram.regions
        ]
        self._ask(Request.VHOST_SET_MEM_TABLE, bytearray(MEMORY_HEADER.pack(len(regions), 0) + b"".join(regions)))

    def set_size(self, number: int, size: int) -> None:
        self._ask(Request.VHOST_SET_VRING_NUM, bytearray(VRING_STATE.pack(number, size)))

    def set_next(self, number: int, next_buffer: int) -> None:
        self._ask(Request.VHOST_SET_VRING_BASE, bytearray(VRING_STATE.pack(number, next_buffer)))

    def set_addresses(self, number: int, queue: Queue) -> None:
        places = [self._host_address(place) for place in (queue.descriptors, queue.used, queue.available)]
        flags = _LOGGED if self._ram.log is not None else 0
        self._ask(Request.VHOST_SET_VRING_ADDR, bytearray(VRING_ADDRESS.pack(number, flags, *places, queue.used)))

    def set_kick(self, number: int, fd: int) -> None:
        self._ask(Request.VHOST_SET_VRING_KICK, bytearray(_VRING_FILE.pack(number, fd)))

    def set_call(self, number: int, fd: int) -> None:
        self._ask(Request.VHOST_SET_VRING_CALL, bytearray(_VRING_FILE.pack(number, fd)))

    def serve(self, number: int, tap: int) -> None:
        """Begin, after all else is set: packets come from and go to the tap."""
        self._ask(Request.VHOST_NET_SET_BACKEND, bytearray(_VRING_FILE.pack(number, tap)))

    def stop(self, number: int) -> int:
        """Touch the queue no more; which buffer would be next."""
        self._ask(Request.VHOST_NET_SET_BACKEND, bytearray(_VRING_FILE.pack(number, _NOBODY)))
        state = bytearray(VRING_STATE.pack(number, 0))
        self._ask(Request.VHOST_GET_VRING_BASE, state)
        next_buffer: int = VRING_STATE.unpack(state)[1]
        return next_buffer & 0xFFFF

    def _host_address(self, guest_address: int) -> int:
        for region in self._ram.regions:
            if guest_address in region.guest_addresses:
                return self._ram.host_address(region) + guest_address - region.guest_address
        raise DeviceError(f"a queue at {guest_address:#x} is not in the guest's memory")

    def _ask(self, request: Request, argument: bytearray) -> None:
        try:
            fcntl.ioctl(self._fd, request, argument)
        except OSError as error:
            raise DeviceError(f"vhost refuses {request.name}: {error.strerror}") from error
