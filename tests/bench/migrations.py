"""Promise 9's price: a guest that moves by the agents, against one that moves between two QEMUs by hand.

    devstack/sandbox/enter python -m tests.bench.migrations

Between two virtual hosts: the ratios count, not the times. Only memory is carried; the agents' guest has its disk in
Ceph, the other one has none. Nothing is encrypted: processors do that in hardware, and emulated ones bit by bit. QEMU's
time by hand is its own, with that of starting the destination; the agents' is a controller's, from order to end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from laboratory.settings import HostSettings
from sandbox import images
from tests.bench.comparison import compared, print_lines
from tests.functional.guests import Guests, address_of, an_order, until
from tests.host.console import ROOT
from tests.host.silence import FINE, listening

ROUNDS = 4
CROWD = 10
_DIRECTORY = "/run/by-hand"
_PORT = 4444
_TAP = "hand0"
_SECONDS = 600.0
_MEMORY_MIB = 3000
"""Of a host that has all of the crowd."""
_OPTIONS = "[migration]\nencrypt = false\n"
_RUN = f"import sys, json, runpy; sys.path.insert(0, {str(ROOT)!r})\n"
_RUN += "runpy.run_module('tests.bench.moving_by_hand', run_name='__main__')"


class ByHand:
    """A guest of two hosts' QEMUs, at home on the first."""

    def __init__(self, hosts: list[VirtualHost], memory_mb: int) -> None:
        self._hosts = hosts
        self._command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
            *("-machine", "q35,accel=kvm", "-cpu", "host", "-smp", "1", "-m", str(memory_mb)),
            *("-qmp", f"unix:{_DIRECTORY}/monitor.sock,server=on,wait=off", "-pidfile", f"{_DIRECTORY}/monitor.pid"),
            *("-netdev", f"tap,id=net,ifname={_TAP},script=no,downscript=no,vhost=on"),
            *("-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:99:99", "-device", "virtio-rng-pci"),
            *("-kernel", str(images.kernel()), "-initrd", str(images.ramdisk())),
            *("-append", f"console=ttyS0 quiet ip0={self.address}/24"),
            *("-serial", "null"),  # without any its shell would end and begin anew for ever
        ]
        for host in hosts:
            host.run("mkdir", "-p", _DIRECTORY)
        self._tell("ready", 0, None)
        until(lambda: hosts[0].reaches(self.address), _SECONDS)

    address = "10.77.0.200"

    def move(self) -> tuple[float, float]:
        """Seconds that it took in all, and that the guest stood still."""
        ready = self._tell("ready", 1, _PORT)["ready"]
        said = self._tell("move", 0, _PORT)
        self._hosts.reverse()
        return ready + said["total"], said["down"]

    def close(self) -> None:
        """It ends."""
        self._tell("end", 0, None)

    def _tell(self, side: str, where: int, port: int | None) -> Mapping[str, float]:
        order = {
            "side": side,
            "command": self._command,
            "monitor": f"{_DIRECTORY}/monitor.sock",
            "tap": _TAP,
            "peer": self._hosts[1 - where].address,
            "port": port,
        }
        said = self._hosts[where].run(sys.executable, "-c", _RUN, seconds=_SECONDS, stdin=json.dumps(order))
        answer: Mapping[str, float] = json.loads(said)
        return answer


class ByAgents:
    """The same, by theirs."""

    def __init__(self, lab: Laboratory) -> None:
        self.hosts = [Guests(host, "qemu") for host in lab.hosts]

    def boot(self) -> Instance:
        """A guest on the first host."""
        disk = BlockDevice(source_type="blank", size_gb=1, backend="rbd")
        return self.hosts[0].boot(an_order(block_devices=[disk], config_drive=False))

    def move(self, *orders: Instance) -> float:
        """All at once from the first host to the second, which changes places with it; seconds."""
        here, there = self.hosts
        began = time.monotonic()
        for accepted in [here.client.live_migration(one.uuid, there.node.name) for one in orders]:
            here.finish(accepted, _SECONDS)
        took = time.monotonic() - began
        self.hosts.reverse()
        return took


def run(directory: Path) -> Iterator[object]:
    """A line for each comparison; `directory` is the lab's."""
    settings = HostSettings(memory_mib=_MEMORY_MIB, agent_options=_OPTIONS)
    with Laboratory(directory, 2, settings, offers=["ceph"]) as lab:
        agents = ByAgents(lab)
        order = agents.boot()
        hand = ByHand(list(lab.hosts), order.flavor.memory_mb)
        totals, gaps = [], []
        for _ in range(ROUNDS):
            with listening(lab.hosts[0], hand.address, FINE):  # which costs emulated hosts something
                total, down = hand.move()
            with listening(lab.hosts[0], address_of(order), FINE) as gap:
                totals.append((agents.move(order), total))
            gaps.append((gap[0], down))
        hand.close()
        yield compared("a guest moves, from the order to its end", totals, 1.2, "two QEMUs by hand")
        yield compared("its network is silent", gaps, 1.2, "QEMU's own down time by hand")
        crowd = [agents.boot() for _ in range(CROWD - 1)]
        one, all_of_them = median(ours for ours, _ in totals), agents.move(order, *crowd)
        yield f"{CROWD} guests move at once: {all_of_them / one:.1f} x the time of one"


if __name__ == "__main__":
    print_lines(run)
