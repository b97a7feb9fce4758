"""What the machine and the switch have of ports that no guest has: found without the agent."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from compute_agent.instance.model import Instance
from sandbox.switch import Switch

_TAP, _PART_OF_ID = "tap", 11
"""What the names of the guests' taps and ports begin with, and how many characters of a port's id follow."""


def difference(switch: Switch, running: Sequence[Instance]) -> Iterator[str]:
    """In words, what is there besides the ports of these instances, and what of theirs is not."""
    wanted = {_TAP + port.id[:_PART_OF_ID] for instance in running for port in instance.ports}
    taps = {name for _, name in socket.if_nameindex() if name.startswith(_TAP)}
    rows = [
        (bridge, port)
        for bridge in switch.vsctl("list-br").split()
        for port in switch.ports(bridge)
        if port.startswith(_TAP)
    ]
    yield from (f"interface {name}" for name in sorted(taps - wanted))
    yield from (f"port {name} on {bridge}" for bridge, name in rows if name not in wanted)
    yield from (f"no interface {name}" for name in sorted(wanted - taps))
    yield from (f"no port {name}" for name in sorted(wanted - {name for _, name in rows}))
