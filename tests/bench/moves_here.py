"""Promise 9's price where nobody emulates Python: a guest moves between two agents of this machine, or QEMUs by hand.

    devstack/sandbox/enter python -m tests.bench.moves_here

Its processor is emulated. It has no NIC, to which both agents would give one tap, and no disk; nothing is encrypted.
QEMU's time by hand is its own, with that of starting the destination; the agents' is a controller's, from order to end.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from compute_agent.instance.model import Instance
from sandbox import agent_of_emulated_moves, images
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.bench.comparison import compared, seconds
from tests.bench.ends import Ends
from tests.bench.moving_by_hand import be_ready, end, move
from tests.functional.guests import Guests, an_order

ROUNDS = 10
_PORT = 4444


class ByHand:
    """A guest of two QEMUs, at home in the first."""

    def __init__(self, directory: Path, memory_mb: int) -> None:
        self._sides = [_side(directory / name, memory_mb) for name in ("here", "there")]
        be_ready({**self._sides[0], "port": None})

    def move(self) -> float:
        """Seconds that it took."""
        here, there = self._sides
        took = be_ready(there)["ready"] + move(here)["total"]
        self._sides.reverse()
        return took

    def close(self) -> None:
        """It ends."""
        for side in self._sides:
            end(side)


def _side(directory: Path, memory_mb: int) -> dict[str, object]:
    directory.mkdir(parents=True)
    monitor = directory / "monitor.sock"
    command = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
        *("-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", str(memory_mb)),
        *("-qmp", f"unix:{monitor},server=on,wait=off", "-pidfile", str(monitor.with_suffix(".pid"))),
        *("-device", "virtio-rng-pci", "-kernel", str(images.kernel()), "-initrd", str(images.ramdisk())),
        *("-append", "console=ttyS0 quiet"),
        *("-serial", "null"),  # without any its shell would end and begin anew for ever
    ]
    return {"command": command, "monitor": str(monitor), "tap": None, "peer": "127.0.0.1", "port": _PORT}


class ByAgents:
    """A guest of two nodes, at home on the first."""

    def __init__(self, nodes: list[Node], ends: Ends) -> None:
        self._nodes = nodes
        self._ends = ends
        self.order: Instance = Guests(nodes[0]).boot(an_order(ports=0, config_drive=False, block_devices=[]))
        Guests(nodes[0]).await_console(self.order.uuid, "GUEST READY")

    def move(self) -> float:
        """Seconds that it took."""
        here, there = self._nodes
        took = seconds(lambda: self._ends.await_end(here.client.live_migration(self.order.uuid, there.host)))
        self._nodes.reverse()
        return took

    def close(self) -> None:
        """It ends."""
        self._ends.await_end(self._nodes[0].client.terminate_instance(self.order.uuid))


def run(directory: Path, broker: Broker, switch: Switch) -> Iterator[object]:
    """One line."""
    nodes = [Node(directory / name, broker.transport_url, switch.connection, host=f"m{name}") for name in "ab"]
    for node in nodes:
        node.program = [sys.executable, agent_of_emulated_moves.__file__]
        node.storage = "[migration]\nencrypt = false"
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        agents = stack.enter_context(closing(ByAgents(nodes, stack.enter_context(closing(Ends(broker.transport_url))))))
        hand = stack.enter_context(closing(ByHand(directory / "hand", agents.order.flavor.memory_mb)))
        pairs = [(agents.move(), hand.move()) for _ in range(ROUNDS)]
    yield compared("a guest moves, no Python is emulated", pairs, 1.2, "two QEMUs by hand")


def main() -> None:
    """In a sandbox."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        directory = Path(path)
        with Broker(directory / "mq") as broker, Switch(directory / "sw") as switch:
            for line in run(directory, broker, switch):
                print(line, flush=True)


if __name__ == "__main__":
    main()
