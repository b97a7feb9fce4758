"""A tap's queue, as a virtio network device needs it.

Source: <linux/if_tun.h>; Linux's Documentation/networking/tuntap.rst, 3.3 (multiqueue).
"""

from __future__ import annotations

import fcntl
import os
import struct

from compute_agent.errors import DeviceError

_SET_OFFLOAD, _SET_HEADER_SIZE, _SET_QUEUE = 0x400454D0, 0x400454D8, 0x400454D9
_ATTACH, _DETACH = 0x0200, 0x0400
_HEADER_SIZE = 12
"""Of a version 1 device, in bytes, in front of each packet."""
_REQUEST = struct.Struct("<16xH22x")
_BROADCAST = b"\xff" * 6
_REVERSE_ARP = struct.pack(">HHHBBH", 0x8035, 1, 0x0800, 6, 4, 3)
"""The frame's type; Ethernet, IPv4, the lengths of their addresses; "which is mine?"."""
_SHORTEST_FRAME = 60


def reverse_arp(mac: bytes) -> bytes:
    """A frame that says no more than that the address is there. Source: RFC 903; QEMU announces guests so.

    :param mac: 6 bytes.
    """
    addresses = mac + bytes(4) + mac + bytes(4)
    return (_BROADCAST + mac + _REVERSE_ARP + addresses).ljust(_SHORTEST_FRAME, b"\0")


class Tap:
    """An open queue of a tap that was made with IFF_VNET_HDR, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._is_attached = True

    def prepare(self, offloads: int) -> None:
        """:param offloads: the TUN_F_… that the guest takes.

        :raises DeviceError: the tap cannot do that.
        """
        try:
            fcntl.ioctl(self.fd, _SET_HEADER_SIZE, struct.pack("<i", _HEADER_SIZE))
            fcntl.ioctl(self.fd, _SET_OFFLOAD, offloads)
        except OSError as error:
            raise DeviceError(f"a network device's tap: {error.strerror}") from error

    def attach(self, wanted: bool) -> None:
        """Whether the kernel gives packets to this queue; only of a tap with several. May be repeated.

        :raises DeviceError: the tap cannot do that.
        """
        if wanted == self._is_attached:
            return
        try:
            fcntl.ioctl(self.fd, _SET_QUEUE, _REQUEST.pack(_ATTACH if wanted else _DETACH))
        except OSError as error:
            raise DeviceError(f"a queue of a network device's tap: {error.strerror}") from error
        self._is_attached = wanted

    def send(self, frame: bytes) -> None:
        """Have it come in from the guest's side, whoever else serves the queue.

        :raises DeviceError: the tap does not take it.
        """
        try:
            os.write(self.fd, bytes(_HEADER_SIZE) + frame)
        except OSError as error:
            raise DeviceError(f"a network device's tap: {error.strerror}") from error

    def close(self) -> None:
        """May be repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
