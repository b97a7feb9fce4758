"""Guests' packets stay in the kernel: vhost-net moves them, a worker a queue pair, and VXLAN links the hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest

from compute_agent.instance.model import Flavor, Instance, PortDetails
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.functional.guests import Guests, a_port, address_of, an_order, until

VCPUS = 2
MULTIQUEUE = Flavor(vcpus=VCPUS, memory_mb=128, extra_specs={"hw:vif_multiqueue_enabled": "true"})
PLAIN = Flavor(vcpus=1, memory_mb=128)
MTU = 1500
TUNNEL_MTU = 1450
"""What Neutron gives a port where the hosts' own network takes 1500 bytes: VXLAN needs 50 of them."""
LARGEST, LARGEST_IN_TUNNEL = MTU - 28, TUNNEL_MTU - 28
"""Payload of the largest ping: the headers of IP and ICMP take 28 bytes."""


@dataclass(frozen=True, kw_only=True)
class Inhabitant:
    """A guest where it runs."""

    host: VirtualHost
    guests: Guests
    order: Instance

    @property
    def taps(self) -> list[str]:
        return [f"tap{port.id[:11]}" for port in self.order.ports]

    @property
    def pid(self) -> int:
        return self.guests.view(self.order.uuid).pid or 0

    def await_console(self, text: str) -> None:
        self.guests.await_console(self.order.uuid, text)

    def vhost_devices(self) -> int:
        """How often its process has /dev/vhost-net open."""
        return self.host.run("sh", "-c", f"readlink /proc/{self.pid}/fd/*").split().count("/dev/vhost-net")

    def vhost_workers(self) -> int:
        """The kernel's threads for it."""
        return self.host.run("ps", "-e", "-o", "comm").split().count(f"vhost-{self.pid}")


def an_inhabitant(host: VirtualHost, flavor: Flavor, arguments: str) -> Inhabitant:
    """One NIC on the plain network, one on a VLAN where packets are small enough for a tunnel."""
    ports = [a_port(mtu=MTU), a_port(mtu=TUNNEL_MTU, details=PortDetails(vlan=88))]
    order = msgspec.structs.replace(an_order(arguments=arguments), flavor=flavor, ports=ports, block_devices=[])
    guests = Guests(host, "qemu")
    return Inhabitant(host=host, guests=guests, order=guests.wished(order))


@pytest.fixture(scope="module")
def pair(lab: Laboratory) -> Iterator[tuple[Inhabitant, Inhabitant]]:
    """A guest on each of two hosts, each pinging the other; what they leave in the kernel fails the module."""
    first = an_inhabitant(lab.hosts[0], MULTIQUEUE, f"ip1=10.88.0.1/24 ping=10.88.0.2,{LARGEST_IN_TUNNEL}")
    second = an_inhabitant(lab.hosts[1], PLAIN, f"ip1=10.88.0.2/24 ping={address_of(first.order)},{LARGEST}")
    pair = (first, second)
    booting = [one.guests.client.build_and_run_instance(one.order) for one in pair]
    for one, accepted in zip(pair, booting, strict=True):
        one.guests.finish(accepted)
        one.await_console("GUEST READY")
    yield pair
    for one in pair:
        one.guests.terminate_all()
        until(lambda host=one.host: "vhost-" not in host.run("ps", "-e", "-o", "comm"))
        assert "tap" not in one.host.run("ls", "/sys/class/net")
        assert "tap" not in one.host.run("ovs-vsctl", "list-ports", "br-int")
        assert ": tap" not in one.host.run("ovs-dpctl", "show")


@pytest.fixture
def multiqueue(pair: tuple[Inhabitant, Inhabitant]) -> Inhabitant:
    """The guest with a queue pair a vCPU."""
    return pair[0]


@pytest.fixture
def plain(pair: tuple[Inhabitant, Inhabitant]) -> Inhabitant:
    """The guest with one vCPU, whose flavor says nothing."""
    return pair[1]


def test_a_worker_of_the_kernel_serves_each_queue_pair(multiqueue: Inhabitant, plain: Inhabitant) -> None:
    assert multiqueue.vhost_devices() == multiqueue.vhost_workers() == VCPUS * len(multiqueue.taps)
    assert plain.vhost_devices() == plain.vhost_workers() == len(plain.taps)


def test_a_nic_has_a_queue_pair_a_vcpu(multiqueue: Inhabitant, plain: Inhabitant) -> None:
    for guest, queues in ((multiqueue, VCPUS), (plain, 1)):
        for number, tap in enumerate(guest.taps):
            assert len(guest.host.run("ls", f"/sys/class/net/{tap}/queues").split()) == 2 * queues
            guest.await_console(f"QUEUES eth{number} {queues}")


def test_a_nic_that_comes_later_is_served_alike_and_goes_with_its_workers(multiqueue: Inhabitant) -> None:
    client, uuid, port, served = multiqueue.guests.client, multiqueue.order.uuid, a_port(), multiqueue.vhost_workers()
    multiqueue.guests.finish(client.attach_interface(uuid, port))
    assert multiqueue.vhost_devices() == multiqueue.vhost_workers() == served + VCPUS
    assert len(multiqueue.host.run("ls", f"/sys/class/net/tap{port.id[:11]}/queues").split()) == 2 * VCPUS
    multiqueue.guests.finish(client.detach_interface(uuid, port.id))
    assert multiqueue.vhost_devices() == multiqueue.vhost_workers() == served


def test_its_ports_are_in_the_kernels_datapath(multiqueue: Inhabitant) -> None:
    datapath, *ports = multiqueue.host.run("ovs-dpctl", "show").splitlines()
    assert datapath == "system@ovs-system:"
    for tap in multiqueue.taps:
        assert any(re.fullmatch(rf"\s+port \d+: {tap}", line) for line in ports)
        assert int(multiqueue.host.run("ovs-vsctl", "get", "Interface", tap, "ofport")) > 0


def test_it_answers_its_host(multiqueue: Inhabitant) -> None:
    multiqueue.host.run("ping", "-c", "1", "-W", "10", address_of(multiqueue.order))


def test_guests_on_two_hosts_exchange_the_largest_packets(multiqueue: Inhabitant, plain: Inhabitant) -> None:
    for guest in (multiqueue, plain):
        guest.await_console(f"MTU eth0 {MTU}")
        guest.await_console(f"MTU eth1 {TUNNEL_MTU}")
    plain.await_console(f"PONG {address_of(multiqueue.order)},{LARGEST}")
    multiqueue.await_console(f"PONG 10.88.0.2,{LARGEST_IN_TUNNEL}")
