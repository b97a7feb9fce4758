"""Promise 3: plugging a port, against `ovs-vsctl` on the same switch in the same run.

    python -m tests.bench.plug --db unix:/run/openvswitch/db.sock --bridge br-int

Ours counts from the call of the driver until the switch has given a port number, the making of the tap included.
Theirs is `ovs-vsctl add-port … set interface …` on a tap that is there already, until it returns.
Needs root, and a network namespace that may get and lose taps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import uuid
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from functools import partial

from compute_agent.instance.devices import Nic
from compute_agent.instance.model import Port, PortDetails
from compute_agent.network.contract import PortRequest
from compute_agent.network.ovs.driver import OvsPortDriver
from compute_agent.network.ovs.tap import open_tap, tap_name
from compute_agent.network.settings import NetworkSettings
from tests.bench.comparison import Comparison, at_once, compared

MAC = "52:54:00:00:00:01"
ROUNDS_OF_ONE = 20
ROUNDS_OF_MANY = 5
MANY = 50


class Ours:
    """The driver."""

    def __init__(self, db: str, bridge: str, pool: Executor) -> None:
        self._pool = pool
        self._details = PortDetails(bridge_name=bridge)
        self._driver = OvsPortDriver(NetworkSettings(host="bench", ovsdb_connection=db, plug_timeout=30))
        self._driver.inspect()  # connected from here on, as a running agent is

    def measure(self, count: int) -> float:
        """Seconds to plug `count` ports at once."""
        requests = [self._request() for _ in range(count)]
        nics: list[Nic] = []
        try:
            return at_once(self._pool, [partial(self._plug, one, nics) for one in requests])
        finally:
            for nic in nics:
                nic.close()
            self._driver.unplug([one.port.id for one in requests])

    def close(self) -> None:
        """Leave the switch."""
        self._driver.close()

    def _plug(self, request: PortRequest, nics: list[Nic]) -> None:
        nics.extend(self._driver.plug([request]))

    def _request(self) -> PortRequest:
        port = Port(id=str(uuid.uuid4()), mac_address=MAC, details=self._details)
        return PortRequest(instance_uuid=str(uuid.uuid4()), name="net0", port=port)


class Theirs:
    """`ovs-vsctl`, as scripts and agents call it."""

    def __init__(self, db: str, bridge: str, pool: Executor) -> None:
        self._pool = pool
        self._vsctl = ["ovs-vsctl", f"--db={db}", "--timeout=30"]
        self._bridge = bridge

    def measure(self, count: int) -> float:
        """Seconds to plug `count` ports at once."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        fds = [fd for one in ids for fd in open_tap(tap_name(one), MAC, 1500)]
        try:
            return at_once(self._pool, [partial(self._plug, one) for one in ids])
        finally:
            for fd in fds:
                os.close(fd)
            remove = [word for one in ids for word in ("--", "--if-exists", "del-port", tap_name(one))]
            subprocess.run([*self._vsctl, *remove], check=True, timeout=60)

    def _plug(self, port_id: str) -> None:
        name = tap_name(port_id)
        external_ids = [
            f"external_ids:iface-id={port_id}",
            "external_ids:iface-status=active",
            f'external_ids:attached-mac="{MAC}"',
            f"external_ids:vm-uuid={uuid.uuid4()}",
        ]
        command = ["add-port", self._bridge, name, "--", "set", "interface", name, "mtu_request=1500", *external_ids]
        subprocess.run([*self._vsctl, *command], check=True, timeout=60)


def run(db: str, bridge: str) -> list[Comparison]:
    """Measure both sides turn by turn, so that a busy moment of the machine hits both."""
    plans = (("plug a port", 1, ROUNDS_OF_ONE, 1 / 3), (f"plug {MANY} at once", MANY, ROUNDS_OF_MANY, 1 / 5))
    with ThreadPoolExecutor(MANY) as pool, closing(Ours(db, bridge, pool)) as ours:
        theirs = Theirs(db, bridge, pool)
        comparisons = []
        for name, count, rounds, goal in plans:
            pairs = [(ours.measure(count), theirs.measure(count)) for _ in range(rounds)]
            comparisons.append(compared(name, pairs, goal, "ovs-vsctl"))
        return comparisons


def main() -> None:
    """Print one line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", required=True, help="the switch's database, such as unix:/run/openvswitch/db.sock")
    parser.add_argument("--bridge", required=True)
    arguments = parser.parse_args()
    for comparison in run(arguments.db, arguments.bridge):
        print(comparison)


if __name__ == "__main__":
    main()
