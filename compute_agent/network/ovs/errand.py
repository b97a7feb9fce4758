"""What can be asked of the switch: each errand knows what to write, and how to see that it has come true.

Its methods run in the thread that follows the database, and must not block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Generic, Literal, TypeVar

from compute_agent.errors import NetworkError
from compute_agent.network.ovs.switch import PortRow, Switch, fault, is_marked, port_number

T = TypeVar("T")


class _Pending(Enum):
    PENDING = auto()


PENDING = _Pending.PENDING
"""The outcome of an errand that has not come true yet."""

Pending = Literal[_Pending.PENDING]


class Errand(ABC, Generic[T]):
    """Something asked of the switch."""

    @abstractmethod
    def write(self, switch: Switch) -> bool:
        """Add to the transaction under way what the database lacks; asked again when a transaction was lost.

        :return: whether that was anything.
        :raises NetworkError: refused, and nothing was added.
        """

    @abstractmethod
    def outcome(self, switch: Switch, configuration: int) -> T | Pending:
        """What the one who asked gets; `configuration` is the number under which everything written is committed.

        :raises NetworkError: it will never come true.
        """


class Look(Errand[T]):
    """Read from the copy, again at each change until there is something to tell."""

    def __init__(self, read: Callable[[Switch], T | Pending]) -> None:
        self._read = read

    def write(self, switch: Switch) -> bool:
        """Nothing."""
        return False

    def outcome(self, switch: Switch, configuration: int) -> T | Pending:
        """What `read` found."""
        return self._read(switch)


def await_applied(configuration: int) -> Look[None]:
    """Wait until ovs-vswitchd has taken up a configuration."""
    return Look(lambda switch: None if switch.applied >= configuration else PENDING)


class RemovePorts(Errand[int]):
    """Take those of `names` that carry the mark of `host` off the switch."""

    def __init__(self, names: Sequence[str], host: str) -> None:
        self._names = names
        self._host = host
        self._wrote = False

    def write(self, switch: Switch) -> bool:
        """Nothing for a port that is not there, or is not ours."""
        ours = [name for name in self._names if self._is_ours(switch, name)]
        for name in ours:
            switch.remove(name)
        self._wrote = self._wrote or bool(ours)
        return bool(ours)

    def _is_ours(self, switch: Switch, name: str) -> bool:
        interface = switch.interface(name)
        return interface is not None and is_marked(interface, self._host)

    def outcome(self, switch: Switch, configuration: int) -> int:
        """The number of the configuration without them; 0 if none was there."""
        return configuration if self._wrote else 0


class AddPorts(Errand[None]):
    """Put `ports` on their bridges, and wait until the switch forwards for each of them."""

    def __init__(self, ports: Sequence[PortRow], host: str) -> None:
        self._ports = ports
        self._host = host

    def write(self, switch: Switch) -> bool:
        """A row with our mark is from this very errand: its commit was thought lost, and was not."""
        missing = [port for port in self._ports if not self._is_there(switch, port)]
        for port in missing:
            switch.add(port)
        return bool(missing)

    def _is_there(self, switch: Switch, port: PortRow) -> bool:
        switch.bridge(port.bridge)
        interface = switch.interface(port.name)
        if interface is not None and not is_marked(interface, self._host):
            raise NetworkError(f"{port.name} is on the switch already, and was not put there by this host's agent")
        return interface is not None

    def outcome(self, switch: Switch, configuration: int) -> Pending | None:
        """Nothing, once each has a port number."""
        applied = switch.applied >= configuration
        forwarding = [_is_forwarding(switch, port, applied) for port in self._ports]
        return None if all(forwarding) else PENDING


def _is_forwarding(switch: Switch, port: PortRow, applied: bool) -> bool:
    interface = switch.interface(port.name)
    if interface is None:
        raise NetworkError(f"{port.name} was taken off {port.bridge} by somebody else")
    number, reason = port_number(interface), fault(interface)
    if number is None and applied:
        reason = reason or "ovs-vswitchd gave it no port number; its log says why"
    if number == -1 or reason is not None:
        raise NetworkError(f"{port.name} on {port.bridge}: {reason or 'ovs-vswitchd cannot use the device'}")
    return number is not None
