"""Promise 4: the machine of our own against QEMU's q35 with the same kernel, disk and NIC, in a virtual host.

    devstack/sandbox/enter python -m tests.bench.machines

The host is emulated, and its KVM real: the ratios count, not the times.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import get_args

import msgspec

from compute_agent.instance.machine import HypervisorName
from compute_agent.instance.model import Instance
from laboratory.host import VirtualHost
from laboratory.laboratory import Laboratory
from tests.bench.comparison import Comparison, compared, print_lines
from tests.bench.disks import AREA_MB, LOADS, took
from tests.bench.machine_by_hand import CONSOLE, MachineByHand
from tests.bench.vhost import packets, throughput
from tests.functional.guests import Guests, address_of, an_order, with_hypervisor
from tests.host.console import ROOT, run_on_console

ROUNDS = 5
_STARTS = 3
_CROWD = 6
"""Guests."""
_IDLE_SECONDS = 120.0
_PSS = "/^Size:/ {size = $2} /^Pss:/ {if (size < RAM) sum += $2} END {print sum}"
_START = f"import sys, json; sys.path.insert(0, {str(ROOT)!r})\n"
_START += "from tests.bench.starting import main; main(json.load(sys.stdin))"


def run(directory: Path) -> Iterator[object]:
    """A line for each comparison; `directory` is the lab's."""
    with Laboratory(directory, hosts=1) as lab:
        (host,) = lab.hosts
        guests = Guests(host)
        order = msgspec.structs.replace(an_order(config_drive=False))
        orders = {name: _order(name) for name in get_args(HypervisorName)}
        for one in orders.values():
            guests.boot(one)
        hand = MachineByHand(host=host, address=address_of(order), memory_mb=order.flavor.memory_mb)
        hand.prepare()
        yield from _exits(guests, orders["vmm"].uuid)
        yield from _starts(host, lab.broker.transport_url, orders, hand)
        yield from _beside_each_other(guests, orders, hand)


def _order(name: HypervisorName) -> Instance:
    return with_hypervisor(an_order(config_drive=False), name)


def _exits(guests: Guests, instance_uuid: str) -> Iterator[str]:
    """Those that Python has to answer, of a boot that prints next to nothing, and of a guest that does nothing."""
    guests.await_console(instance_uuid, "GUEST READY")
    booted = _exit_counts(guests, instance_uuid)
    yield f"vmm, a quiet boot: {booted['passed']} of {booted['exits']} exits reach Python"
    time.sleep(_IDLE_SECONDS)
    passed = _exit_counts(guests, instance_uuid)["passed"] - booted["passed"]
    said = f"{passed} exits in {_IDLE_SECONDS:g} s reach Python"
    yield f"vmm, an idle guest: {said} (goal 0; Linux asks for random numbers each minute)"


def _exit_counts(guests: Guests, instance_uuid: str) -> dict[str, int]:
    counters = guests.client.get_diagnostics(instance_uuid)["counters"]
    assert isinstance(counters, Mapping)
    return {"exits": counters["exits"], "passed": sum(counters["passed"].values())}


def _starts(
    host: VirtualHost, transport_url: str, orders: Mapping[str, Instance], hand: MachineByHand
) -> Iterator[Comparison]:
    order = {
        "transport_url": transport_url,
        "host": host.name,
        "instances": {name: one.uuid for name, one in orders.items()},
        "rounds": _STARTS,
        "command": hand.command,
        "console": CONSOLE,
    }
    said = host.run(sys.executable, "-c", _START, seconds=900, stdin=json.dumps(order))
    times: dict[str, Sequence[float]] = json.loads(said)
    for other, name in (("qemu", "the agent's QEMU"), ("hand", "QEMU q35 by hand")):
        pairs = list(zip(times["vmm"], times[other], strict=True))
        yield compared("vmm, from the order to user space", pairs, 0.8, name)


def _beside_each_other(guests: Guests, orders: Mapping[str, Instance], hand: MachineByHand) -> Iterator[object]:
    """Both run at the same time and are asked in turns."""
    host, ours = guests.node, orders["vmm"]
    pid = hand.start()
    guests.finish(guests.client.start_instance(ours.uuid))
    guests.await_console(ours.uuid, "GUEST READY", times=_STARTS + 2)
    console = str(guests.client.get_serial_console(ours.uuid)["path"])
    yield from _disk(_shell(host, console), _shell(host, CONSOLE))
    yield from _network(host, address_of(ours), hand.address)
    yield from _memory(guests, guests.view(ours.uuid).pid or 0, pid, hand.memory_mb)


def _memory(guests: Guests, ours: int, theirs: int, memory_mb: int) -> Iterator[str]:
    """Machines of our own share what their fork server has in memory: one alone counts half of it as its own."""
    for number in (1, _CROWD):
        for _ in range(1, number):
            guests.boot(_order("vmm"))
        beyond_ours, beyond_theirs = (_beyond_memory(guests.node, pid, memory_mb) for pid in (ours, theirs))
        what = f"vmm, PSS beyond the guest's memory, {number} on the host"
        yield f"{what}: {beyond_ours:.1f} MiB (goal 5.0), {beyond_ours / beyond_theirs:.2f} x QEMU by hand (goal 0.15)"


def _beyond_memory(host: VirtualHost, pid: int, memory_mb: int) -> float:
    """MiB of a process that are not the guest's: all mappings but the one as large as its memory."""
    return int(host.run("awk", _PSS.replace("RAM", str(memory_mb << 10)), f"/proc/{pid}/smaps")) / 1024


def _disk(ours: Callable[[str], str], theirs: Callable[[str], str]) -> Iterator[Comparison]:
    for run_there in (ours, theirs):
        run_there(f"dd if=/dev/zero of=/dev/vda bs=1M count={AREA_MB} oflag=direct")
    for name, load in LOADS.items():
        command = load.replace("{disk}", "vda")
        pairs = [(took(ours, command), took(theirs, command)) for _ in range(ROUNDS)]
        yield compared(f"vmm, {name}, vhost-user-blk", pairs, 1.0, "QEMU by hand")


def _network(host: VirtualHost, ours: str, theirs: str) -> Iterator[str]:
    for what, measure in (("throughput", throughput), ("round trips", packets)):
        pairs = [(measure(host, ours), measure(host, theirs)) for _ in range(ROUNDS)]
        our, their = (median(side) for side in zip(*pairs, strict=True))
        yield f"vmm, vhost-net {what}: {our / their:.2f} x QEMU by hand (goal 1.00; {our:.0f} against {their:.0f})"


def _shell(host: VirtualHost, console: str) -> Callable[[str], str]:
    return lambda command: run_on_console(host, console, command, 120)


if __name__ == "__main__":
    print_lines(run)
