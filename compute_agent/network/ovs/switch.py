"""The switch's database, as rows that mean something to us. Belongs to the thread that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ovs.db.idl import Idl, SchemaHelper, Transaction

from compute_agent.errors import NetworkError
from compute_agent.network.contract import PluggedPort
from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.schema import vswitch_schema
from compute_agent.network.ovs.tap import TAP

HOST_MARK = "compute-agent-host"
"""In an Interface's external_ids: the host whose agent made it."""

_RECONNECT_MS = 1000
"""The pause between two tries to connect: the least that the library allows. It would go up to 8 seconds."""

Row = Any
"""One row of the library's copy; its attributes are the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRow:
    """A port as the database shall have it: a Port and an Interface, both called `name`."""

    name: str
    bridge: str
    vlan: int | None
    mtu: int
    external_ids: dict[str, str]


class Switch:
    """A copy of the database that follows it, and the means to change it."""

    def __init__(self, connection: str) -> None:
        schema = SchemaHelper(schema_json=vswitch_schema())
        schema.register_all()
        self._idl = Idl(connection, schema)
        self._idl._session.reconnect.set_backoff(_RECONNECT_MS, _RECONNECT_MS)
        for table in ("Bridge", "Port", "Interface"):
            self._idl.index_create(table, "name").add_column("name")

    def run(self) -> None:
        """Take in what the server sent; reconnect when it is time to."""
        self._idl.run()

    def wait(self, poller: Poller) -> None:
        """Have `poller` wake up when `run` has something to do."""
        self._idl.wait(poller)

    def close(self) -> None:
        """Leave the server."""
        self._idl.close()

    @property
    def in_step(self) -> bool:
        """The connection is up, and the copy complete."""
        connected = self._idl._session.is_connected() and self._idl.state == Idl.IDL_S_MONITORING
        return bool(connected and self._rows("Open_vSwitch"))

    def bridge(self, name: str) -> Row:
        """:raises NetworkError: it is not there."""
        bridge = self._find("Bridge", name)
        if bridge is None:
            raise NetworkError(f"bridge {name} is not there: Open vSwitch on this host does not have it")
        return bridge

    def interface(self, name: str) -> Row | None:
        """The Interface of this name, where there is one."""
        return self._find("Interface", name)

    def plugged(self, host: str) -> list[PluggedPort]:
        """Every port with the mark of `host`'s agent."""
        return [_plugged_port(bridge, one) for bridge, one in self._interfaces() if is_marked(one, host)]

    def foreign(self, host: str) -> set[str]:
        """In words, every guest's port without the mark of `host`'s agent."""
        guests = [(bridge, one) for bridge, one in self._interfaces() if _looks_like_a_guests(one)]
        return {f"port {one.name} on bridge {bridge.name}" for bridge, one in guests if not is_marked(one, host)}

    def names(self) -> set[str]:
        """Of all interfaces that are on a bridge."""
        return {interface.name for _, interface in self._interfaces()}

    @property
    def applied(self) -> int:
        """The number of the configuration that ovs-vswitchd took up last."""
        return int(self._root().cur_cfg)

    @property
    def wanted(self) -> int:
        """The number of the newest configuration."""
        return int(self._root().next_cfg)

    def begin(self) -> Transaction:
        """A transaction for `add` and `remove`; its configuration number tells when ovs-vswitchd has taken it up."""
        transaction = Transaction(self._idl)
        self._root().increment("next_cfg")
        return transaction

    def add(self, port: PortRow) -> None:
        """Put a new port on its bridge."""
        interface = self._insert("Interface", name=port.name, external_ids=port.external_ids, mtu_request=port.mtu)
        row = self._insert("Port", name=port.name, interfaces=[interface], tag=port.vlan or [])
        # One more element, not the whole set: what others do to the bridge meanwhile is left alone.
        self.bridge(port.bridge).addvalue("ports", row)

    def remove(self, name: str) -> None:
        """Take a port off its bridge; the server deletes rows that nothing refers to."""
        port = self._find("Port", name)
        for bridge in self._rows("Bridge"):
            if port in bridge.ports:
                bridge.delvalue("ports", port)

    def _insert(self, table: str, **columns: object) -> Row:
        row = self._idl.txn.insert(self._idl.tables[table])
        for column, value in columns.items():
            setattr(row, column, value)
        return row

    def _root(self) -> Row:
        return self._rows("Open_vSwitch")[0]

    def _rows(self, table: str) -> list[Row]:
        return list(self._idl.tables[table].rows.values())

    def _find(self, table: str, name: str) -> Row | None:
        entry = self._idl.tables[table].rows.IndexEntry(name=name)
        return next(self._idl.index_equal(table, "name", entry), None)

    def _interfaces(self) -> Iterator[tuple[Row, Row]]:
        for bridge in self._rows("Bridge"):
            for port in bridge.ports:
                for interface in port.interfaces:
                    yield bridge, interface


def is_marked(interface: Row, host: str) -> bool:
    """Whether `host`'s agent made it."""
    return bool(interface.external_ids.get(HOST_MARK) == host)


def _looks_like_a_guests(interface: Row) -> bool:
    """What is plugged for a VM, by whomever, has an ``iface-id``, which OVN and Neutron know it by, or is a tap."""
    return "iface-id" in interface.external_ids or interface.name.startswith(TAP)


def port_number(interface: Row) -> int | None:
    """What ovs-vswitchd assigned: None before it has looked, -1 where it cannot use the device."""
    return next(iter(interface.ofport), None)


def fault(interface: Row) -> str | None:
    """What ovs-vswitchd says is wrong with it."""
    return next(iter(interface.error), None)


def _plugged_port(bridge: Row, interface: Row) -> PluggedPort:
    return PluggedPort(
        port_id=interface.external_ids.get("iface-id", ""),
        instance_uuid=interface.external_ids.get("vm-uuid", ""),
        interface=interface.name,
        bridge=bridge.name,
        ofport=port_number(interface),
        error=fault(interface),
    )
