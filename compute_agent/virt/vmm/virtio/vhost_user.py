"""Telling a vhost-user server, another process, to serve queues.

Source: QEMU's docs/interop/vhost-user.rst.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

from compute_agent.errors import DeviceError
from compute_agent.virt.vmm.memory import GuestRam
from compute_agent.virt.vmm.virtio.queue import NO_CALL, Queue
from compute_agent.virt.vmm.virtio.vhost import MEMORY_HEADER, MEMORY_REGION, VRING_ADDRESS, VRING_STATE
from compute_agent.virt.vmm.write_log import LOG_ALL, WriteLog

ANSWER_SECONDS = 10
"""A server answers at once, unless it hangs."""
PROTOCOL_FEATURES = 1 << 30
_HEADER = struct.Struct("<III")
_NUMBER = struct.Struct("<Q")
_CONFIG = struct.Struct("<III")
_LOG = struct.Struct("<QQ")
"""Size and offset in a file."""
_VERSION, _IS_REPLY, _NEED_REPLY = 1, 1 << 2, 1 << 3
_NO_DESCRIPTOR = 1 << 8
_LONGEST_ANSWER = 4096


class Request(IntEnum):
    """Those that we make."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    GET_CONFIG = 24


class ProtocolFeature(IntEnum):
    """Those that we need, or want."""

    MQ = 1 << 0
    LOG_SHMFD = 1 << 1
    REPLY_ACK = 1 << 3
    CONFIG = 1 << 9


_NEEDED = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG


class VhostUserServer:
    """At the other end of a connected socket, which it owns.

    A request that fails or gets no answer ends the connection: nobody would know what holds.

    :raises DeviceError: nobody is there, or does not speak the protocol as far as it is needed.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(ANSWER_SECONDS)
        self._acknowledges = False
        self.features = self._ask_number(Request.GET_FEATURES)
        """Of the device and its queues."""
        offered = self._ask_number(Request.GET_PROTOCOL_FEATURES) if self.features & PROTOCOL_FEATURES else 0
        if _NEEDED & ~offered:
            raise self._broken("speaks too little of the protocol")
        self._can_log = bool(self.features & LOG_ALL and offered & ProtocolFeature.LOG_SHMFD)
        self._tell(Request.SET_PROTOCOL_FEATURES, _NUMBER.pack(_NEEDED | offered & ProtocolFeature.LOG_SHMFD))
        self._acknowledges = True
        self._tell(Request.SET_OWNER)
        self.queues = self._ask_number(Request.GET_QUEUE_NUM)
        """The most that it serves."""

    def fileno(self) -> int:
        """Hangs up when the server goes."""
        return self._connection.fileno()

    def close(self) -> None:
        """May be repeated."""
        self._connection.close()

    def configuration(self, size: int) -> bytes:
        """The first `size` bytes of the device's own fields."""
        request = _CONFIG.pack(0, size, 0)
        answer = self._ask(Request.GET_CONFIG, request + bytes(size))
        if len(answer) != len(request) + size:
            raise self._broken("has no such configuration")
        return answer[len(request) :]

    def set_features(self, features: int, log: WriteLog | None) -> None:
        """What the guest's driver has taken. What the server writes is logged where there is a log.

        :raises DeviceError: also where it keeps none; the connection is as it was then.
        """
        if log is not None:
            self._set_log(log)
            features |= LOG_ALL
        self._tell(Request.SET_FEATURES, _NUMBER.pack(features | PROTOCOL_FEATURES))

    def _set_log(self, log: WriteLog) -> None:
        if not self._can_log:
            raise DeviceError("the server of a device keeps no log of what it writes")
        self._send(Request.SET_LOG_BASE, _LOG.pack(log.size, 0), [log.fd], 0)
        if len(self._answer(Request.SET_LOG_BASE)) != _NUMBER.size:
            raise self._broken("does not take a log")

    def share_memory(self, ram: GuestRam) -> None:
        """All of it. What it would call our addresses are the guest's: nobody else has to know ours."""
        regions = [
            MEMORY_REGION.pack(region.guest_address, region.size, region.guest_address, region.offset)
            for region in ram.regions
        ]
        table = MEMORY_HEADER.pack(len(regions), 0) + b"".join(regions)
        self._tell(Request.SET_MEM_TABLE, table, [ram.fd] * len(regions))

    def set_size(self, number: int, size: int) -> None:
        self._tell(Request.SET_VRING_NUM, VRING_STATE.pack(number, size))

    def set_next(self, number: int, next_buffer: int) -> None:
        self._tell(Request.SET_VRING_BASE, VRING_STATE.pack(number, next_buffer))

    def set_addresses(self, number: int, queue: Queue) -> None:
        addresses = VRING_ADDRESS.pack(number, 0, queue.descriptors, queue.used, queue.available, queue.used)
        self._tell(Request.SET_VRING_ADDR, addresses)

    def set_kick(self, number: int, fd: int) -> None:
        self._tell(Request.SET_VRING_KICK, _NUMBER.pack(number), [fd])

    def set_call(self, number: int, fd: int) -> None:
        if fd == NO_CALL:
            self._tell(Request.SET_VRING_CALL, _NUMBER.pack(number | _NO_DESCRIPTOR))
        else:
            self._tell(Request.SET_VRING_CALL, _NUMBER.pack(number), [fd])

    def enable(self, number: int) -> None:
        """Begin, after all else is set."""
        self._tell(Request.SET_VRING_ENABLE, VRING_STATE.pack(number, 1))

    def stop(self, number: int) -> int:
        """Which buffer it would take next. Those that it has taken may still be under way."""
        answer = self._ask(Request.GET_VRING_BASE, VRING_STATE.pack(number, 0))
        if len(answer) != VRING_STATE.size:
            raise self._broken("does not say where it stopped")
        next_buffer: int = VRING_STATE.unpack(answer)[1]
        return next_buffer & 0xFFFF

    def _tell(self, request: Request, payload: bytes = b"", descriptors: list[int] | None = None) -> None:
        self._send(request, payload, descriptors or [], _NEED_REPLY if self._acknowledges else 0)
        if self._acknowledges and self._answer(request) != bytes(_NUMBER.size):
            raise self._broken(f"refuses {request.name}")

    def _ask(self, request: Request, payload: bytes = b"") -> bytes:
        self._send(request, payload, [], 0)
        return self._answer(request)

    def _ask_number(self, request: Request) -> int:
        answer = self._ask(request)
        if len(answer) != _NUMBER.size:
            raise self._broken(f"does not understand {request.name}")
        number: int = _NUMBER.unpack(answer)[0]
        return number

    def _send(self, request: Request, payload: bytes, descriptors: list[int], flags: int) -> None:
        message = _HEADER.pack(request, _VERSION | flags, len(payload)) + payload
        try:
            socket.send_fds(self._connection, [message], descriptors)
        except OSError as error:
            raise self._broken(f"does not take {request.name}: {error}") from error

    def _answer(self, request: Request) -> bytes:
        kind, flags, size = _HEADER.unpack(self._receive(_HEADER.size, request))
        if kind != request or not flags & _IS_REPLY or size > _LONGEST_ANSWER:
            raise self._broken(f"answers {request.name} with something else")
        return self._receive(size, request)

    def _receive(self, size: int, request: Request) -> bytes:
        received = b""
        while len(received) < size:
            try:
                piece = self._connection.recv(size - len(received))
            except OSError as error:
                raise self._broken(f"does not answer {request.name}: {error}") from error
            if not piece:
                raise self._broken(f"hung up at {request.name}")
            received += piece
        return received

    def _broken(self, how: str) -> DeviceError:
        self.close()
        return DeviceError(f"the server of a device {how}")
