"""The driver's verbs that need no tap, on a real ovsdb-server; plugging is tested where there is root."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from compute_agent.errors import NetworkError
from compute_agent.instance.model import Port, PortDetails
from compute_agent.network.contract import PluggedPort, PortDriver
from compute_agent.network.ovs import driver as driver_module
from compute_agent.network.ovs.driver import OvsPortDriver
from compute_agent.network.settings import NetworkSettings

from .switch_server import StandIn, SwitchServer

PORT_ID = "edf403bc-4a9e-421d-9e6f-a18d35984ce0"
TAP = "tapedf403bc-4a"
INSTANCE = "08b74295-df7b-4dd1-afba-a2a2ff361dde"


@pytest.fixture
def driver(server: SwitchServer) -> Iterator[PortDriver]:
    made = OvsPortDriver(NetworkSettings(host="compute-1", ovsdb_connection=server.connection))
    yield made
    made.close()


def port_on(bridge: str) -> Port:
    return Port(id=PORT_ID, mac_address="52:54:00:00:00:01", details=PortDetails(bridge_name=bridge))


def put(server: SwitchServer, name: str, host: str) -> None:
    """A port as an agent on `host` makes it."""
    external_ids = {"iface-id": PORT_ID, "vm-uuid": INSTANCE, "compute-agent-host": host}
    columns = [f"external_ids:{key}={value}" for key, value in external_ids.items()]
    server.vsctl("add-port", "br-int", name, "--", "set", "Interface", name, *columns)


def test_check_names_the_bridge_that_is_not_there(driver: PortDriver) -> None:
    driver.check({})
    driver.check({"port": port_on("br-int")})
    with pytest.raises(NetworkError, match=r"^instance\.ports\[1\]\.details\.bridge_name: bridge br-nope is not there"):
        driver.check({"instance.ports[0]": port_on("br-int"), "instance.ports[1]": port_on("br-nope")})


def test_check_names_the_tap_that_somebody_holds(driver: PortDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.if_nameindex", lambda: [(7, TAP)])
    assert driver.interface_name(PORT_ID) == TAP
    with pytest.raises(NetworkError, match=rf"^port\.id: tap {TAP} is busy"):
        driver.check({"port": port_on("br-int")})


def test_inspect_tells_of_our_ports_only(server: SwitchServer, driver: PortDriver) -> None:
    put(server, TAP, host="compute-1")
    put(server, "tap-other", host="compute-2")
    expected = PluggedPort(
        port_id=PORT_ID, instance_uuid=INSTANCE, interface=TAP, bridge="br-int", ofport=None, error=None
    )
    server.vsctl("wait-until", "Interface", "tap-other")
    assert driver.inspect() == [expected]
    server.vsctl("set", "Interface", TAP, "ofport=-1", "error=gone")
    assert [(one.ofport, one.error) for one in driver.inspect()] == [(-1, "gone")]


def test_unplug_may_be_repeated_and_leaves_others_alone(
    server: SwitchServer, vswitchd: StandIn, driver: PortDriver
) -> None:
    put(server, TAP, host="compute-1")
    put(server, "tap-other", host="compute-2")
    driver.unplug([PORT_ID])
    driver.unplug([PORT_ID])
    assert server.ports() == ["tap-other"]


def test_unplug_needs_no_vswitchd(
    server: SwitchServer, driver: PortDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver_module, "_LETTING_GO", 0.1)
    put(server, TAP, host="compute-1")
    with caplog.at_level(logging.WARNING):
        driver.unplug([PORT_ID])
    assert server.ports() == []
    assert "ovs-vswitchd does not answer" in caplog.text
