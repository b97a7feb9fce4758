"""Ports in a real Open vSwitch: what is in its database, and what happens when it dies."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from compute_agent import errors
from compute_agent.instance.model import PortDetails
from compute_agent.instance.state import VmState
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, a_port, address_of, an_order, pings, until


def external_ids(switch: Switch, port_id: str) -> dict[str, str]:
    found = switch.vsctl(
        "--format=json", "--columns=external_ids", "find", "Interface", f"external_ids:iface-id={port_id}"
    )
    return dict(json.loads(found)["data"][0][0][1])


@pytest.fixture
def mended(switch: Switch) -> Iterator[Switch]:
    """The switch, whole again after the test."""
    yield switch
    switch.start()


def test_a_port_is_marked_as_neutron_and_ovn_expect_it(guests: Guests, switch: Switch, node: Node) -> None:
    instance = guests.boot()
    port = instance.ports[0]
    ids = external_ids(switch, port.id)
    assert ids["iface-id"] == port.id
    assert ids["iface-status"] == "active"
    assert ids["attached-mac"] == port.mac_address
    assert ids["vm-uuid"] == instance.uuid
    assert switch.ports("br-int") == [f"tap{port.id[:11]}"]


def test_a_vlan_separates_guests(guests: Guests, switch: Switch) -> None:
    port = a_port(details=PortDetails(vlan=77))
    instance = guests.boot(msgspec.structs.replace(an_order(), ports=[port]))
    assert switch.vsctl("get", "Port", f"tap{port.id[:11]}", "tag").strip() == "77"
    assert not pings(address_of(instance))
    switch.vsctl("clear", "Port", f"tap{port.id[:11]}", "tag")
    until(lambda: pings(address_of(instance)))


def test_a_foreign_port_is_never_touched(guests: Guests, switch: Switch) -> None:
    switch.vsctl("add-port", "br-int", "foreign", "--", "set", "Interface", "foreign", "type=internal")
    try:
        guests.finish(guests.client.terminate_instance(guests.boot().uuid))
        assert switch.ports("br-int") == ["foreign"]
    finally:
        switch.vsctl("del-port", "foreign")


def test_a_dead_vswitchd_is_named_and_nothing_is_left(guests: Guests, mended: Switch) -> None:
    mended.kill_vswitchd()
    order = an_order()
    try:
        fault = guests.fail(guests.client.build_and_run_instance(order)).fault
    except errors.NetworkError as refused:
        assert "ovs-vswitchd" in str(refused)
    else:
        assert fault is not None
        assert "ovs-vswitchd" in fault.message
        assert guests.view(order.uuid).vm_state is VmState.ERROR
        guests.finish(guests.client.terminate_instance(order.uuid))
    mended.start()
    assert mended.ports("br-int") == []
    guests.boot()


def test_a_dead_ovsdb_is_named_and_the_agent_finds_it_again(guests: Guests, mended: Switch) -> None:
    mended.kill_ovsdb()
    with pytest.raises(errors.NetworkError, match=r"db\.sock"):
        guests.client.build_and_run_instance(an_order())
    mended.start()

    def boots() -> bool:
        try:
            guests.boot()
        except errors.NetworkError:
            return False
        return True

    until(boots, 30)
