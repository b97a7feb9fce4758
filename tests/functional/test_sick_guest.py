"""A guest whose process is stopped dead, or whose monitor raves, is shown as that, harms nobody, and can be removed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState
from sandbox.node import Node
from tests.functional.guests import Guests, an_order, halting_image, until
from tests.functional.sickness import KINDS, SickMonitor

AT_ONCE = 8.0
"""Seconds; what the agent would lose if it waited for the sick guest is more: 10."""
AT_A_TIME, ROUNDS = 4, 3
MUCH = 400
"""MiB; what the sick send is five times a gigabyte."""


def test_a_silent_guest_is_unresponsive_and_the_others_are_served(guests: Guests) -> None:
    sick, well = guests.boot(), guests.boot(an_order(arguments="counter"))
    pid = guests.view(sick.uuid).pid or 0
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    shown = {view.instance.uuid: view.power_state for view in guests.client.list_instances()}
    assert shown == {sick.uuid: PowerState.UNRESPONSIVE, well.uuid: PowerState.RUNNING}
    stuck = guests.client.pause_instance(sick.uuid)
    guests.finish(guests.client.pause_instance(well.uuid))
    guests.finish(guests.client.unpause_instance(well.uuid))
    assert time.monotonic() - began < AT_ONCE
    os.kill(pid, signal.SIGCONT)
    guests.finish(stuck)
    until(lambda: guests.view(sick.uuid).power_state is PowerState.PAUSED)


def test_a_silent_guest_can_be_terminated(guests: Guests) -> None:
    sick = guests.boot()
    os.kill(guests.view(sick.uuid).pid or 0, signal.SIGSTOP)
    guests.finish(guests.client.terminate_instance(sick.uuid), AT_ONCE)
    assert guests.client.list_instances() == []


def test_a_tenth_of_all_guests_raves_and_the_others_are_served(node: Node, guests: Guests) -> None:
    order = halting_order(node)
    uuids = boot_all(guests, [order() for _ in range(10 * len(KINDS))])
    ill, well = uuids[: len(KINDS)], uuids[len(KINDS) :]
    pids = [guests.view(one).pid or 0 for one in ill]
    before, spent_before = toggle_all(guests, well)
    node.kill()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    monitors = [SickMonitor(guests, one, kind) for one, kind in zip(ill, KINDS, strict=True)]
    node.start()
    after, spent_after = toggle_all(guests, well)
    print(f"99 of 100 took {worst(before):.2f} s, beside the sick {worst(after):.2f} s", end="; ")
    print(f"the agent's CPU time {spent_before:.1f} s and {spent_after:.1f} s")
    assert worst(after) < AT_ONCE
    assert {guests.view(one).power_state for one in ill} == {PowerState.UNRESPONSIVE}
    assert {guests.view(one).power_state for one in well} == {PowerState.RUNNING}
    ended = [guests.client.terminate_instance(one) for one in ill]
    for one in ended:
        guests.finish(one, AT_ONCE)
    for monitor in monitors:
        monitor.close()
    assert node.memory("VmHWM") < MUCH


def halting_order(node: Node) -> Callable[[], Instance]:
    """Guests that take no CPU."""
    disk = BlockDevice(source_type="image", image=halting_image(node.image_source / "halt.raw"), size_gb=1)
    return lambda: an_order(ports=0, block_devices=[disk], direct_boot=None, config_drive=False)


def boot_all(guests: Guests, orders: list[Instance]) -> list[str]:
    """At once; their uuids."""
    for accepted in [guests.client.build_and_run_instance(order) for order in orders]:
        guests.finish(accepted)
    return [order.uuid for order in orders]


def toggle_all(guests: Guests, uuids: list[str]) -> tuple[list[float], float]:
    """Pause each and let it go on, some at a time; how long each took, and the agent's CPU seconds meanwhile."""
    began = cpu_seconds(guests.node)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        times = list(pool.map(lambda one: toggle(guests, one), uuids * ROUNDS))
    return times, cpu_seconds(guests.node) - began


def toggle(guests: Guests, instance_uuid: str) -> float:
    began = time.monotonic()
    guests.finish(guests.client.pause_instance(instance_uuid))
    guests.finish(guests.client.unpause_instance(instance_uuid))
    return time.monotonic() - began


def worst(times: list[float]) -> float:
    """What 99 of 100 do not exceed."""
    return statistics.quantiles(times, n=100)[98]


def cpu_seconds(node: Node) -> float:
    """The agent's, so far."""
    user, system = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
