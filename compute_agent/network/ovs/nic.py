"""The host's end of a guest's NIC: its tap, and vhost-net where the host has it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from compute_agent.errors import NetworkError
from compute_agent.instance.devices import Nic
from compute_agent.network.contract import PortRequest
from compute_agent.network.ovs.tap import open_tap, tap_name
from compute_agent.network.ovs.vhost import open_vhost


def open_nics(requests: Sequence[PortRequest], vhost_net: Literal["auto", "on", "off"]) -> list[Nic]:
    """Make the taps, on no bridge yet.

    :raises NetworkError: none is left.
    """
    nics: list[Nic] = []
    try:
        for request in requests:
            nics.append(_open_nic(request, vhost_net))
    except NetworkError:
        for nic in nics:
            nic.close()
        raise
    return nics


def _open_nic(request: PortRequest, vhost_net: Literal["auto", "on", "off"]) -> Nic:
    port = request.port
    vhost_fds = open_vhost(vhost_net, request.queues)
    try:
        tap_fds = open_tap(tap_name(port.id), port.mac_address, port.mtu, request.queues)
    except NetworkError:
        for fd in vhost_fds:
            os.close(fd)
        raise
    return Nic(name=request.name, mac_address=port.mac_address, mtu=port.mtu, tap_fds=tap_fds, vhost_fds=vhost_fds)
