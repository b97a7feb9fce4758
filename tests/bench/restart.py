"""Promise 5: an agent that is started beside many guests serves again soon, and stays small.

devstack/sandbox/enter python -m tests.bench.restart
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

from compute_agent.instance.state import PowerState
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.bench.comparison import seconds
from tests.bench.life import ByAgent
from tests.functional.guests import until

GUESTS = 200
ROUNDS = 5
_GOAL, _GOAL_MIB = 2.0, 60
_LATEST = 60.0
"""Seconds."""


def run(node: Node, broker: Broker) -> Iterator[str]:
    """A line each for one guest and for many of them."""
    with closing(ByAgent(node, broker.transport_url)) as agent:
        orders = [agent.order() for _ in range(GUESTS)]
        agent.create(orders[0])
        yield _line(node, 1)
        for order in orders[1:]:
            agent.create(order)
        yield _line(node, GUESTS)
        for order in orders:
            agent.destroy(order)


def _line(node: Node, guests: int) -> str:
    serving, knowing = zip(*(_restart(node, guests) for _ in range(ROUNDS)), strict=True)
    took, size = median(serving), node.memory("VmRSS")
    met = [name for name, is_met in (("s", took <= _GOAL), ("MiB", size <= _GOAL_MIB)) if is_met]
    return (
        f"serving again beside {guests} guests: {took:.2f} s after its start (goal {_GOAL:g}), all known to run "
        f"after {median(knowing):.2f} s; {size} MiB (goal {_GOAL_MIB}); met: {', '.join(met) or 'none'}"
    )


def _restart(node: Node, guests: int) -> tuple[float, float]:
    """Seconds until it serves, and until it has said of each guest that it runs. It was killed."""
    node.kill()
    serving = seconds(node.start)
    return serving, serving + seconds(lambda: _await_all(node, guests))


def _await_all(node: Node, guests: int) -> None:
    def running() -> int:
        return [one.power_state for one in node.client.list_instances()].count(PowerState.RUNNING)

    until(lambda: running() >= guests, _LATEST, every=0.001)


def main() -> None:
    """Alone."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        directory = Path(path)
        with Broker(directory / "mq") as broker, Switch(directory / "sw") as switch:
            switch.add_bridge("br-int", address="10.77.0.1/24")
            with Node(directory / "node", broker.transport_url, switch.connection, host="bench") as node:
                for line in run(node, broker):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
