"""Guests' packets in the kernel: vhost-net moves them, a queue pair a vCPU, and VXLAN carries them between hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compute_agent.instance.model import Flavor, Instance, PortDetails
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.functional.guests import Guests, a_port, address_of, an_order, until

VCPUS = 2
MULTIQUEUE = Flavor(vcpus=VCPUS, memory_mb=128, extra_specs={"hw:vif_multiqueue_enabled": "true"})
PLAIN = Flavor(vcpus=1, memory_mb=128)
TUNNEL_MTU = 1450
"""What Neutron gives a port where the hosts' own network takes 1500 bytes, of which VXLAN needs 50."""
HEADERS = 28
"""Bytes of a ping's packet that are not its payload."""


class Pair:
    """A guest on each of two hosts, on the same two networks; each pings the other with the largest packets."""

    def __init__(self, lab: Laboratory) -> None:
        self.host, self.other_host = lab.hosts
        self.guests, self.other_guests = Guests(self.host), Guests(self.other_host)
        order, other = _order(MULTIQUEUE), _order(PLAIN)
        self.instance = _that_pings(order, other)
        self.other = _that_pings(other, order)

    def boot(self) -> None:
        """Both at once."""
        booting = self.guests.client.build_and_run_instance(self.instance)
        self.other_guests.boot(self.other)
        self.guests.finish(booting)
        self.guests.await_console(self.instance.uuid, "GUEST READY")

    def terminate(self) -> None:
        self.guests.terminate_all()
        self.other_guests.terminate_all()


def _order(flavor: Flavor) -> Instance:
    ports = [a_port(), a_port(mtu=TUNNEL_MTU, details=PortDetails(vlan=88))]
    return an_order(flavor=flavor, ports=ports, block_devices=[])
