"""Ports come to a guest that runs, and go again: packets pass through them, and nothing of them is left."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from compute_agent.errors import InvalidMessage, InvalidState, NetworkError
from compute_agent.instance.model import FixedIp, Flavor, Instance, Port, PortDetails, Subnet
from compute_agent.instance.state import VmState
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, a_port, address_of, an_order, pings, until
from tests.functional.shell import run_inside

TWO_QUEUES = Flavor(vcpus=2, memory_mb=128, extra_specs={"hw:vif_multiqueue_enabled": "true"})


def a_guest(guests: Guests, **changes: object) -> Instance:
    """Without a port."""
    return guests.boot(an_order(ports=0, **changes))


def tap_of(port: Port) -> str:
    return f"tap{port.id[:11]}"


def taps() -> list[str]:
    return [name for _, name in socket.if_nameindex() if name.startswith("tap")]


def network_descriptors(guests: Guests, instance_uuid: str) -> list[str]:
    """What the guest's process has open of taps and vhost."""
    descriptors = Path(f"/proc/{guests.view(instance_uuid).pid}/fd").iterdir()
    return [target for one in descriptors if re.search("/net/tun|/vhost-net", target := str(one.readlink()))]


def nic_in(guests: Guests, instance_uuid: str, port: Port) -> str:
    """What the guest calls its NIC, once it has found it."""
    look = f"grep -l {port.mac_address} /sys/class/net/*/address || true"
    found = until(lambda: run_inside(guests, instance_uuid, look))
    return Path(found).parent.name


def use(guests: Guests, instance: Instance, port: Port) -> str:
    """Give the NIC the guest's address; what the guest calls it."""
    name = nic_in(guests, instance.uuid, port)
    address = f"ip address add {address_of(instance)}/24 dev {name}"
    run_inside(guests, instance.uuid, f"ip link set {name} up; {address}")
    run("ip", "neighbor", "flush", "dev", "br-int")  # the address may have been another NIC's
    return name


def attach(guests: Guests, instance_uuid: str, port: Port) -> None:
    guests.finish(guests.client.attach_interface(instance_uuid, port))


def detach(guests: Guests, instance_uuid: str, port: Port) -> None:
    guests.finish(guests.client.detach_interface(instance_uuid, port.id))


def test_a_nic_comes_carries_packets_and_goes_while_the_guest_runs(guests: Guests, switch: Switch) -> None:
    guest, port = a_guest(guests, flavor=TWO_QUEUES), a_port(mtu=1400)
    attach(guests, guest.uuid, port)
    name = use(guests, guest, port)
    until(lambda: pings(address_of(guest)))
    found = f"cat /sys/class/net/{name}/mtu; ls /sys/class/net/{name}/queues | grep -c rx"
    assert run_inside(guests, guest.uuid, found).split() == ["1400", "2"]
    assert [one.device_name for one in guests.view(guest.uuid).instance.ports] == ["net0"]
    assert switch.ports("br-int") == taps() == [tap_of(port)]
    detach(guests, guest.uuid, port)
    assert run_inside(guests, guest.uuid, "ls /sys/class/net") == "lo"
    assert switch.ports("br-int") == taps() == network_descriptors(guests, guest.uuid) == []
    assert guests.view(guest.uuid).instance.ports == []
    attach(guests, guest.uuid, port)
    use(guests, guest, port)
    until(lambda: pings(address_of(guest)))


def test_a_nic_that_came_later_is_there_whatever_becomes_of_guest_and_agent(
    guests: Guests, node: Node, switch: Switch
) -> None:
    guest, first, second = a_guest(guests), a_port(), a_port()
    attach(guests, guest.uuid, first)
    use(guests, guest, first)
    node.kill()
    assert pings(address_of(guest)), "nobody but the guest holds its tap"
    node.start()
    guests.finish(guests.client.suspend_instance(guest.uuid))
    assert switch.ports("br-int") == taps() == []
    with pytest.raises(InvalidState, match="is suspended: attach_interface needs it to be active or paused or stopped"):
        guests.client.attach_interface(guest.uuid, second)
    guests.finish(guests.client.resume_instance(guest.uuid))
    until(lambda: pings(address_of(guest)))
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    attach(guests, guest.uuid, second)
    assert switch.ports("br-int") == taps() == []
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert set(switch.ports("br-int")) == set(taps()) == {tap_of(first), tap_of(second)}
    detach(guests, guest.uuid, first)
    use(guests, guest, second)
    until(lambda: pings(address_of(guest)))
    assert [one.device_name for one in guests.view(guest.uuid).instance.ports] == ["net1"]


@pytest.fixture
def impatient(node: Node) -> Iterator[None]:
    """Its agent does not wait long for a guest."""
    node.virt = "detach_timeout = 3"
    node.stop()
    node.start()
    yield
    node.virt = ""


@pytest.mark.usefixtures("impatient")
def test_a_guest_that_does_not_let_go_keeps_its_nic_until_it_does(guests: Guests, switch: Switch) -> None:
    guest, port = a_guest(guests), a_port()
    attach(guests, guest.uuid, port)
    use(guests, guest, port)
    guests.finish(guests.client.pause_instance(guest.uuid))
    refused = guests.fail(guests.client.detach_interface(guest.uuid, port.id))
    assert refused.fault is not None and refused.fault.type == "DetachRefused"
    assert refused.fault.message.startswith("net0: the guest has not let go of it within 3 s")
    assert guests.view(guest.uuid).vm_state is VmState.PAUSED
    assert guests.view(guest.uuid).fault is None
    assert switch.ports("br-int") == [tap_of(port)]
    guests.finish(guests.client.unpause_instance(guest.uuid))
    detach(guests, guest.uuid, port)
    assert switch.ports("br-int") == taps() == network_descriptors(guests, guest.uuid) == []


def test_a_port_that_cannot_be_is_refused_at_once_and_changes_nothing(guests: Guests, switch: Switch) -> None:
    guest = guests.boot()
    (there,) = guests.view(guest.uuid).instance.ports
    unreachable = FixedIp(ip_address="10.0.1.5", subnet=Subnet(cidr="10.0.0.0/24"))
    for port, field in (
        (a_port(id=there.id), "port.id: the instance has it already"),
        (a_port(id=there.id[:-12] + uuid.uuid4().hex[:12]), f"port.id: instance {guest.uuid} on this host has port"),
        (a_port(mac_address=there.mac_address), "port.mac_address: the instance has it already"),
        (a_port(device_name="net0"), "port.device_name: the instance has it already"),
        (a_port(device_name="eth0"), "port.device_name: Expected"),
        (a_port(mtu=9), "port.mtu: Expected"),
        (a_port(fixed_ips=[unreachable]), "port.fixed_ips[0].ip_address: is not in 10.0.0.0/24"),
    ):
        with pytest.raises(InvalidMessage, match=f"^{re.escape(field)}"):
            guests.client.attach_interface(guest.uuid, port)
    with pytest.raises(NetworkError, match=r"^port\.details\.bridge_name: bridge br-nope is not there"):
        guests.client.attach_interface(guest.uuid, a_port(details=PortDetails(bridge_name="br-nope")))
    with pytest.raises(InvalidMessage, match=r"^port_id: the instance has no such port"):
        guests.client.detach_interface(guest.uuid, a_port().id)
    with pytest.raises(NetworkError, match=rf"^instance\.ports\[0\]\.id: tap {tap_of(there)} is busy"):
        guests.client.build_and_run_instance(msgspec.structs.replace(an_order(), ports=[there]))
    assert guests.view(guest.uuid).instance.ports == [there]
    assert switch.ports("br-int") == taps() == [tap_of(there)]
    assert pings(address_of(guest))
