"""A guest whose process is stopped dead, or whose monitor raves, is shown as that, harms nobody, and can be removed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

from compute_agent.errors import InvalidState
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState
from sandbox.node import Node
from tests.functional.guests import Guests, an_order, halting_image, until
from tests.functional.sickness import KINDS, FragileGuest

AT_ONCE = 8.0
"""Seconds; what the agent would lose if it waited for the sick guest is more: 10."""
AT_A_TIME, ROUNDS, TURNS = 4, 4, 2
COMMAND_TIMEOUT = 3
"""Seconds: who waits for a sick guest waits as long, and nobody else does. Ratios of less are printed, not judged: a
machine that does other things makes them."""
WELL_WITHIN = 240.0
"""Seconds: what a monitor has said too much is read slowly, also when it has hung up."""
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
    fragile = make_fragile(node, guests, ill)
    turns = {"all are well": Turns(guests, well, ill), "some are ill": Turns(guests, well, ill)}
    for _ in range(TURNS):
        for one in fragile:
            one.recover()
        until(lambda: {guests.view(one).power_state for one in ill} == {PowerState.RUNNING}, WELL_WITHIN)
        turns["all are well"].have_one()
        for one in fragile:
            one.fall_ill()
        turns["some are ill"].have_one()
        assert {guests.view(one).power_state for one in ill} == {PowerState.UNRESPONSIVE}
    for name, had in turns.items():
        print(f"{name}: half took {statistics.median(had.times):.3f} s, 99 of 100 {worst(had.times):.3f} s", end=", ")
        print(f"the agent's CPU time {had.cpu_seconds / len(had.times):.3f} s each")
    assert worst(turns["some are ill"].times) < COMMAND_TIMEOUT
    for accepted in [guests.client.terminate_instance(one) for one in ill]:
        guests.finish(accepted, AT_ONCE)
    assert {guests.view(one).power_state for one in well} == {PowerState.RUNNING}
    for one in fragile:
        one.close()
    assert node.memory("VmHWM") < MUCH


def make_fragile(node: Node, guests: Guests, uuids: list[str]) -> list[FragileGuest]:
    """One of each kind, known to a new agent."""
    pids = [guests.view(one).pid or 0 for one in uuids]
    node.virt = f"command_timeout = {COMMAND_TIMEOUT}"
    node.kill()
    monitors = [node.directory / "run/guests" / one / "monitor.sock" for one in uuids]
    fragile = [FragileGuest(*one) for one in zip(monitors, pids, KINDS, strict=True)]
    node.start()
    until(lambda: {view.power_state for view in guests.client.list_instances()} == {PowerState.RUNNING})
    return fragile


class Turns:
    """How long it takes to pause each of some guests and to let it go on; others are bothered, and all looked at."""

    def __init__(self, guests: Guests, well: list[str], others: list[str]) -> None:
        self.times: list[float] = []
        self.cpu_seconds = 0.0
        """The agent's meanwhile."""
        self._guests = guests
        self._well = well
        self._others = others

    def have_one(self) -> None:
        over = Event()
        with ThreadPoolExecutor(AT_A_TIME) as pool, ThreadPoolExecutor(len(self._others) + 1) as beside:
            beside.submit(self._look, over)
            for one in self._others:
                beside.submit(self._bother, one)
            began = cpu_seconds(self._guests.node)
            self.times += pool.map(self._toggle, self._well * ROUNDS)
            self.cpu_seconds += cpu_seconds(self._guests.node) - began
            over.set()

    def _toggle(self, instance_uuid: str) -> float:
        began = time.monotonic()
        self._guests.finish(self._guests.client.pause_instance(instance_uuid))
        self._guests.finish(self._guests.client.unpause_instance(instance_uuid))
        return time.monotonic() - began

    def _look(self, over: Event) -> None:
        while not over.wait(1.0):
            self._guests.client.list_instances()

    def _bother(self, instance_uuid: str) -> None:
        """Either it does both, or it cannot do the first."""
        client = self._guests.client
        client.wait(client.pause_instance(instance_uuid).request_id, AT_ONCE)
        with suppress(InvalidState):
            client.wait(client.unpause_instance(instance_uuid).request_id, AT_ONCE)


def halting_order(node: Node) -> Callable[[], Instance]:
    """Guests that take no CPU."""
    disk = BlockDevice(source_type="image", image=halting_image(node.image_source / "halt.raw"), size_gb=1)
    return lambda: an_order(ports=0, block_devices=[disk], direct_boot=None, config_drive=False)


def boot_all(guests: Guests, orders: list[Instance]) -> list[str]:
    """At once; their uuids."""
    for accepted in [guests.client.build_and_run_instance(order) for order in orders]:
        guests.finish(accepted)
    return [order.uuid for order in orders]


def worst(times: list[float]) -> float:
    """What 99 of 100 do not exceed."""
    return statistics.quantiles(times, n=100)[98]


def cpu_seconds(node: Node) -> float:
    """The agent's, so far."""
    user, system = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
