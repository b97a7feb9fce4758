"""`make bench`: every benchmark, in one sandbox or a virtual host. Prints ratios; never fails for a slow one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from sandbox.switch import Switch
from tests.bench import disks, life, machines, migrations, moves_here, plug, restart, vhost


def main() -> None:
    """One line a comparison."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        print("Ratios of medians, measured turn by turn in one run; the guests run under QEMU's TCG.")
        for comparison in _in_a_sandbox(Path(path)):
            print(comparison, flush=True)
        print("In a virtual host, with a real kernel and emulated processors; the guests run under its KVM.")
        labs = (vhost.run(Path(path) / "lab"), machines.run(Path(path) / "lab2"), migrations.run(Path(path) / "lab3"))
        for comparison in chain(*labs):
            print(comparison, flush=True)


def _in_a_sandbox(directory: Path) -> Iterator[object]:
    with Broker(directory / "mq") as broker, Switch(directory / "sw") as switch:
        switch.add_bridge("br-int", address="10.77.0.1/24")
        yield from plug.run(switch.connection, "br-int")
        with Node(directory / "node", broker.transport_url, switch.connection, host="bench") as node:
            yield from life.run(node, broker, switch, directory / "hand")
            yield from restart.run(node, broker)
        yield from moves_here.run(directory / "moves", broker, switch)
        with (
            Ceph(directory / "ceph") as ceph,
            Node(directory / "dn", broker.transport_url, switch.connection, host="disks", ceph=ceph) as node,
        ):
            yield from disks.run(node, broker, ceph, directory / "disks")


if __name__ == "__main__":
    main()
