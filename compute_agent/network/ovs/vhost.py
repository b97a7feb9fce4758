"""vhost-net: the kernel moves a guest's packets, one descriptor a queue."""

from __future__ import annotations

import errno
import os
from typing import Literal

from compute_agent.errors import NetworkError

_DEVICE = "/dev/vhost-net"
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


def open_vhost(mode: Literal["auto", "on", "off"], queues: int, device: str = _DEVICE) -> tuple[int, ...]:
    """Descriptors for `queues` queue pairs; none where `mode` is off, or auto and the host has no vhost-net.

    :raises NetworkError: it is there and cannot be opened, or `mode` is on and it is not there. None is left open.
    """
    fds: list[int] = []
    try:
        while mode != "off" and len(fds) < queues:
            fds.append(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        for fd in fds:
            os.close(fd)
        if mode == "auto" and error.errno in _ABSENT:
            return ()
        raise NetworkError(f"vhost_net is {mode}, but {device} cannot be opened: {error.strerror}") from error
    return tuple(fds)
