"""A tap by ioctl: half a millisecond, where a forked `ip` takes ten or more."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from compute_agent.errors import NetworkError

_TUN_DEVICE = "/dev/net/tun"

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCSIFMTU = 0x8922
_SIOCSIFHWADDR = 0x8924
_IFF_UP = 0x1
_ARPHRD_ETHER = 1

TAP = "tap"
"""What the names of guests' taps begin with."""

_HELD = "a process on this host holds it"


def tap_name(port_id: str) -> str:
    """The name that Neutron and Nova give the tap of a port: 14 characters, one less than an interface may have."""
    return TAP + port_id[:11]


def taps() -> set[str]:
    """The names of all taps here that have such a name."""
    return {name for _, name in socket.if_nameindex() if name.startswith(TAP)}


def refuse_taken(names: Iterable[str]) -> None:
    """Show that nobody holds a tap of one of these names.

    :raises NetworkError: somebody does.
    """
    present = {name for _, name in socket.if_nameindex()}
    for name in names:
        if name in present:
            raise NetworkError(f"tap {name} is busy: {_HELD}")


def open_tap(name: str, mac_address: str, mtu: int, queues: int = 1) -> tuple[int, ...]:
    """Make a tap, one descriptor a queue, and bring it up; it vanishes when its last descriptor is closed.

    :param mac_address: the guest's; the host's end gets one that differs.
    :param mtu: bytes.
    :raises NetworkError: the tap exists (somebody holds it), or this process may not make one. None is left.
    """
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(_open_queue(name, first=not fds, several=queues > 1))
        _bring_up(name, _host_mac(mac_address), mtu)
    except OSError as error:
        for fd in fds:
            os.close(fd)
        if error.errno == errno.EBUSY:
            raise NetworkError(f"tap {name} is busy: {_HELD}") from error
        raise NetworkError(f"tap {name} cannot be made: {error.strerror}") from error
    return tuple(fds)


def _open_queue(name: str, *, first: bool, several: bool) -> int:
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    if several:
        flags |= _IFF_MULTI_QUEUE
    if first:  # else a second holder would silently become one more queue of a running guest's tap
        flags |= _IFF_TUN_EXCL
    fd = os.open(_TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError:
        os.close(fd)
        raise
    return fd


def _bring_up(name: str, mac_address: str, mtu: int) -> None:
    interface = name.encode()
    mac = bytes.fromhex(mac_address.replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", interface, mtu))
        fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", interface, _ARPHRD_ETHER, mac))
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", interface, 0))
        flags = struct.unpack("16xH22x", answer)[0]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", interface, flags | _IFF_UP))


def _host_mac(mac_address: str) -> str:
    """As libvirt does: the host's end must not carry the guest's own address, and a high one is never a bridge's."""
    return "fe" + mac_address[2:]
