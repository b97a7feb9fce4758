"""vhost-net against vhost off: one guest of each in a virtual host, beside each other, measured in turns.

    devstack/sandbox/enter python -m tests.bench.vhost

There because vhost-net and KVM are real there, on any machine. The host is emulated: the ratio counts, not the speed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.bench.comparison import print_lines
from tests.functional.guests import Guests, address_of

ROUNDS = 5
SECONDS = 3
"""Of one measurement."""
CONFIGURATION = "/etc/compute-agent/compute-agent.conf"


def run(directory: Path) -> Iterator[str]:
    """A line for each comparison; `directory` is the lab's."""
    with Laboratory(directory, hosts=1) as lab:
        (host,) = lab.hosts
        guests = Guests(host, "qemu")
        on = address_of(guests.boot())
        _turn_off(host)
        off = address_of(guests.boot())
        yield _compared("the throughput", "Mbit/s", lambda address: throughput(host, address), on, off)
        yield _compared("the packets there and back", "a second", lambda address: packets(host, address), on, off)


def throughput(host: VirtualHost, address: str) -> float:
    """Megabits a second of one TCP connection from a tiny guest, counted where they arrive."""
    # Not in the foreground, dd would be told twice, and the second time would end it before it has counted.
    receive = f"timeout --foreground --signal=INT {SECONDS} dd bs=1M of=/dev/null </dev/tcp/{address}/19 2>&1"
    said = host.run("bash", "-c", f"{receive} || true")
    counted = re.search(r"(\d+) bytes.* copied, ([\d.]+) s", said)
    assert counted, f"dd has not said what it has copied: {said}"
    return int(counted[1]) * 8 / float(counted[2]) / 1e6


def packets(host: VirtualHost, address: str) -> float:
    """Answered pings a second, each sent when the one before is back."""
    counted = re.search(r"(\d+) received", host.run("ping", "-q", "-f", "-w", str(SECONDS), address))
    assert counted, "ping says how many were answered"
    return int(counted[1]) / SECONDS


def _turn_off(host: VirtualHost) -> None:
    """For guests that the agent starts from now on."""
    host.stop_agent()
    host.run("tee", "-a", CONFIGURATION, stdin="[network]\nvhost_net = off\n")
    host.start_agent()


def _compared(what: str, unit: str, measure: Callable[[str], float], on: str, off: str) -> str:
    pairs = [(measure(on), measure(off)) for _ in range(ROUNDS)]
    ours, theirs = (median(side) for side in zip(*pairs, strict=True))
    return f"vhost-net: {ours / theirs:.1f} x {what} of vhost off ({ours:.0f} against {theirs:.0f} {unit})"


if __name__ == "__main__":
    print_lines(run)
