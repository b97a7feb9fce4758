"""Keeps the contract of `PortDriver` with Open vSwitch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, NetworkError
from compute_agent.instance.devices import Nic
from compute_agent.instance.model import Port
from compute_agent.network.contract import PluggedPort, PortRequest
from compute_agent.network.ovs.errand import AddPorts, Look, RemovePorts, await_applied
from compute_agent.network.ovs.nic import open_nics
from compute_agent.network.ovs.ovsdb import Ovsdb
from compute_agent.network.ovs.switch import HOST_MARK, PortRow, Switch
from compute_agent.network.ovs.tap import refuse_taken, tap_name, taps
from compute_agent.network.settings import NetworkSettings

LOG = logging.getLogger(__name__)

_LETTING_GO = 2.0
"""Seconds that ovs-vswitchd gets to let go of a port that is off its bridge already."""


class OvsPortDriver:
    """Ports of this host's guests: a tap each, on a bridge of Open vSwitch.

    Making one does not wait for the switch. Verbs may be called from any thread; each takes at most
    `settings.plug_timeout` seconds, and a few more to put things back.

    :raises InvalidConfiguration: `settings.ovsdb_connection` is not one that OVSDB knows.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._ovsdb = Ovsdb(settings.ovsdb_connection)

    def interface_name(self, port_id: str) -> str:
        """The tap's."""
        return tap_name(port_id)

    def check(self, ports: Mapping[str, Port]) -> None:
        """Refuse early what cannot be plugged; changes nothing. `ports` are by the fields that they are ordered in.

        :raises NetworkError: names the field and the bridge that is not there, or the tap that somebody holds; or says
            that the switch does not answer.
        """

        def find(switch: Switch) -> None:
            for field, port in ports.items():
                with _named(f"{field}.details.bridge_name"):
                    switch.bridge(port.details.bridge_name)

        if ports:
            self._ovsdb.ask(Look(find), self._deadline())
        for field, port in ports.items():
            with _named(f"{field}.id"):
                refuse_taken([tap_name(port.id)])

    def plug(self, requests: Sequence[PortRequest]) -> list[Nic]:
        """Plug all the ports of an instance at once; on return the switch forwards for each of them.

        :raises NetworkError: none of them is left plugged.
        :raises DeadlineExceeded: the switch did not answer in time; `unplug` puts things right.
        """
        deadline = self._deadline()
        rows = [self._row(request) for request in requests]
        names = [row.name for row in rows]
        refuse_taken(names)
        # What an agent left that was killed half way. The switch must let go of it before the new taps exist:
        # else it takes a tap that is back under its name for the old one, and hears nothing from it.
        if leftover := self._remove(names, deadline):
            self._ovsdb.ask(await_applied(leftover), deadline)
        nics = open_nics(requests, self._settings.vhost_net)
        try:
            self._connect(rows, deadline)
        except ComputeAgentError:
            for nic in nics:
                nic.close()
            raise
        return nics

    def unplug(self, port_ids: Sequence[str]) -> None:
        """Take the ports off their bridges and remove their taps. Nothing happens to one that is not there.

        A tap goes with the last descriptor: the guest's, which must have ended, or the Nic's, to be closed.

        :raises NetworkError: the switch's database cannot be reached; nothing was changed.
        :raises DeadlineExceeded: it did not answer in time.
        """
        without = self._remove([tap_name(port_id) for port_id in port_ids], self._deadline())
        try:
            self._ovsdb.ask(await_applied(without), time.monotonic() + _LETTING_GO)
        except ComputeAgentError as error:
            LOG.warning("Ports %s are off the switch, but: %s", ", ".join(port_ids), error)

    def inspect(self) -> list[PluggedPort]:
        """Every port on this switch that carries the mark of this host's agent.

        :raises NetworkError: the switch's database cannot be reached.
        """
        return self._ovsdb.ask(Look(lambda switch: switch.plugged(self._settings.host)), self._deadline())

    def foreign(self) -> set[str]:
        """See the contract. A tap that is on no bridge is nobody's that we know of.

        :raises NetworkError: the switch's database cannot be reached.
        """
        there = taps()

        def find(switch: Switch) -> set[str]:
            alone = there - switch.names()
            return switch.foreign(self._settings.host) | {f"tap {name} on no bridge of the switch" for name in alone}

        return self._ovsdb.ask(Look(find), self._deadline())

    def close(self) -> None:
        """Let go of the switch; ports stay as they are."""
        self._ovsdb.close()

    def _connect(self, rows: Sequence[PortRow], deadline: float) -> None:
        try:
            self._ovsdb.ask(AddPorts(rows, self._settings.host), deadline)
        except NetworkError as error:
            self._take_back([row.name for row in rows], error)
            raise

    def _take_back(self, names: Sequence[str], reason: NetworkError) -> None:
        try:
            self._remove(names, time.monotonic() + _LETTING_GO)
        except ComputeAgentError as error:
            raise DeadlineExceeded(f"{reason}; and then, taking the ports back: {error}") from reason

    def _remove(self, names: Sequence[str], deadline: float) -> int:
        return self._ovsdb.ask(RemovePorts(names, self._settings.host), deadline)

    def _row(self, request: PortRequest) -> PortRow:
        port = request.port
        return PortRow(
            name=tap_name(port.id),
            bridge=port.details.bridge_name,
            vlan=port.details.vlan,
            mtu=port.mtu,
            external_ids={
                "iface-id": port.id,
                "iface-status": "active",
                "attached-mac": port.mac_address,
                "vm-uuid": request.instance_uuid,
                HOST_MARK: self._settings.host,
            },
        )

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.plug_timeout


@contextmanager
def _named(field: str) -> Iterator[None]:
    """What is wrong is wrong about this field."""
    try:
        yield
    except NetworkError as error:
        raise NetworkError(field, *error.args) from error
