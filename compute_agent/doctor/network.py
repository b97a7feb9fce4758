"""What the kernel does for guests' networks and their moves: taps, vhost-net, and TLS."""

from __future__ import annotations

import os
import secrets

from compute_agent.doctor.finding import Finding, failure, ok, warning
from compute_agent.errors import NetworkError
from compute_agent.host.kernel_tls import find_problem
from compute_agent.network.ovs.tap import open_tap
from compute_agent.network.settings import NetworkSettings

_MAC_ADDRESS = "52:54:00:00:00:01"
_VHOST = "/dev/vhost-net"
_LOAD_TUN = "modprobe tun && echo tun > /etc/modules-load.d/tun.conf"
_LOAD_TLS = "modprobe tls && echo tls > /etc/modules-load.d/tls.conf; or set [migration] encrypt = false"
_LOAD_VHOST = "modprobe vhost_net && echo vhost_net > /etc/modules-load.d/vhost_net.conf"


def check_tap() -> list[Finding]:
    """Make a tap with two queues, as guests get them; it vanishes when it is closed."""
    try:
        fds = open_tap(f"doctor{secrets.token_hex(4)}", _MAC_ADDRESS, mtu=1500, queues=2)
    except NetworkError as error:
        return [failure("tun", str(error), _LOAD_TUN)]
    for fd in fds:
        os.close(fd)
    return [ok("tun", "taps with several queues can be made")]


def check_vhost(settings: NetworkSettings) -> list[Finding]:
    """Can the kernel move guests' packets, where it is to?"""
    if settings.vhost_net == "off":
        found = "[network] vhost_net is off: QEMU moves the packets, slowly"
        return [warning("vhost-net", found, "set [network] vhost_net = auto")]
    try:
        os.close(os.open(_VHOST, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        found = f"{_VHOST}: {error.strerror}"
        if settings.vhost_net == "on":
            return [failure("vhost-net", f"{found}; [network] vhost_net is on: no port can be plugged", _LOAD_VHOST)]
        return [warning("vhost-net", f"{found}; QEMU moves the packets, slowly", _LOAD_VHOST)]
    return [ok("vhost-net", "the kernel moves guests' packets")]


def check_tls() -> list[Finding]:
    """Can the kernel encrypt what guests of vmm consist of, when they move?"""
    problem = find_problem()
    if problem is not None:
        return [warning("kernel-tls", f"{problem}: guests of vmm cannot move to or from here", _LOAD_TLS)]
    return [ok("kernel-tls", "the kernel can encrypt guests of vmm on their way to other hosts")]
