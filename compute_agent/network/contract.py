"""What every port driver offers to the agent. Each verb may be repeated after a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from compute_agent.instance.devices import Nic
from compute_agent.instance.model import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """One port of one instance."""

    instance_uuid: str
    name: str
    """``net0``, ``net1``, …: the NIC's name in the machine."""
    port: Port
    queues: int = 1
    """Queue pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedPort:
    """A port that carries our mark, as it is found in the switch."""

    port_id: str
    instance_uuid: str
    interface: str
    """The tap's name."""
    bridge: str
    ofport: int | None
    error: str | None


class PortDriver(Protocol):
    """Makes the tap of a port and puts it on its bridge."""

    def interface_name(self, port_id: str) -> str:
        """What the host's end of a port is called; pure. Two ports of one host must differ in it."""

    def check(self, ports: Mapping[str, Port]) -> None:
        """Refuse early what cannot be plugged; changes nothing. `ports` are by the fields that they are ordered in.

        :raises NetworkError: names the field and the bridge that is not there, or the interface that somebody has; or
            says that the switch does not answer.
        """

    def plug(self, requests: Sequence[PortRequest]) -> list[Nic]:
        """Plug all the ports of an instance at once; on return the switch forwards for each of them.

        :raises NetworkError: none of them is left plugged.
        :raises DeadlineExceeded: the switch did not answer in time; `unplug` puts things right.
        """

    def unplug(self, port_ids: Sequence[str]) -> None:
        """Take the ports off their bridges and remove their taps. Nothing happens to one that is not there."""

    def inspect(self) -> list[PluggedPort]:
        """Every port on this switch that carries the mark of this host's agent."""

    def foreign(self) -> set[str]:
        """In words, what looks like a guest's port or tap on this host and does not carry the mark."""

    def close(self) -> None:
        """Let go of the switch; ports stay as they are."""
