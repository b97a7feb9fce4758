"""`make bench`: every benchmark in one sandbox. Prints ratios; never fails for a slow one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.bench import life, plug


def main() -> None:
    """One line a comparison."""
    with (
        tempfile.TemporaryDirectory(prefix="t") as path,
        Broker(Path(path) / "mq") as broker,
        Switch(Path(path) / "sw") as switch,
    ):
        switch.add_bridge("br-int", address="10.77.0.1/24")
        print("Ratios of medians, measured turn by turn in one run; the guests run under QEMU's TCG.")
        for comparison in plug.run(switch.connection, "br-int"):
            print(comparison, flush=True)
        with Node(Path(path) / "node", broker.transport_url, switch.connection, host="bench") as node:
            for comparison in life.run(node, broker, switch, Path(path) / "hand"):
                print(comparison, flush=True)


if __name__ == "__main__":
    main()
