"""An instance between two hosts, both of this machine, whose agents may be made to kill themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compute_agent.agent.journal import Journal
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import InstanceView
from sandbox import disk_audit
from sandbox.fate import Fate
from sandbox.node import Node
from tests.functional.guests import Guests, until

_POWER = {VmState.ACTIVE: PowerState.RUNNING, VmState.STOPPED: PowerState.SHUTDOWN}
READY = "GUEST READY"
_SECONDS = 60.0
_LAYER = "bbbbbbbb-1111-4222-8333-444444444444"


@dataclass(frozen=True)
class Side:
    """A host, and the fate of its agents."""

    node: Node
    fate: Fate

    @property
    def guests(self) -> Guests:
        return Guests(self.node)

    def has(self, instance_uuid: str, *, or_expects: bool = False) -> bool:
        """It owns the instance; or at least expects it."""
        views = self.guests.client.list_instances()
        known = {one.instance.uuid for one in views if or_expects or one.vm_state is not VmState.INCOMING}
        return instance_uuid in known

    def live_on(self) -> None:
        """There is an agent, and it may do what it likes."""
        self.fate.spare()
        if self.node.pid is None:
            self.node.start()

    def instances(self) -> tuple[list[Instance], list[Instance]]:
        """Those that run and those that do not, while no agent runs."""
        journal = Journal(self.node.directory / "state/journal.sqlite")
        rows = journal.instances()
        journal.close()
        running = [row.record.instance for row in rows if row.vm_state is VmState.ACTIVE]
        return running, [row.record.instance for row in rows if row.vm_state is not VmState.ACTIVE]

    def leftovers(self, other: Side) -> Iterator[str]:
        """While no agent runs on either."""
        running, stopped = self.instances()
        elsewhere = [one for some in other.instances() for one in some]
        yield from (f"{self.node.host}: {line}" for line in disk_audit.surplus(self.node, running, stopped, elsewhere))
        if sorted(self.node.running()) != sorted(one.uuid for one in running):
            yield f"{self.node.host}: processes of {self.node.running()}"


class Crossing:
    """One instance that goes to and fro, and one on each side that must notice nothing."""

    def __init__(self, sides: Sequence[Side], an_order: Callable[[], Instance]) -> None:
        self.sides = sides
        self.deaths, self.moments, self.steps = 0, 0, 0
        """Of the last move: agents that died in it; of its operation, until the first death."""
        self._bystanders = [self._boot(side, an_order()) for side in sides]
        self.order = an_order()
        self._boot(sides[0], self.order)

    def _boot(self, side: Side, order: Instance) -> InstanceView:
        side.guests.finish(side.node.client.build_and_run_instance(order))
        return side.guests.view(order.uuid)

    @property
    def uuid(self) -> str:
        return self.order.uuid

    def here_and_there(self) -> tuple[Side, Side]:
        """Whose it is, and the other."""
        (here,) = [side for side in self.sides if side.has(self.uuid)]
        (there,) = [side for side in self.sides if side is not here]
        return here, there

    def make(self, state: VmState, *, layered: bool) -> None:
        """It is in that state, with a layer on its disk or without one."""
        (here, _) = self.here_and_there()
        view = here.guests.view(self.uuid)
        if view.vm_state is not state:
            stop, start = here.node.client.stop_instance, here.node.client.start_instance
            here.guests.finish(start(self.uuid) if state is VmState.ACTIVE else stop(self.uuid, timeout=0))
        for layer in view.instance.block_devices[0].layers:
            if not layered:
                here.guests.finish(here.node.client.volume_snapshot_delete(self.uuid, "disk0", layer))
        if layered and not view.instance.block_devices[0].layers:
            here.guests.finish(here.node.client.volume_snapshot_create(self.uuid, "disk0", _LAYER))

    def assert_counts_on(self, owner: Side, counted: int, starts: int) -> None:
        """If it is one that counts; its console tells of so many starts."""
        if counted:
            until(lambda: owner.guests.counter(self.uuid) > counted)
            assert owner.guests.console(self.uuid).count(READY) == starts

    def assert_only(self, owner: Side, state: VmState) -> None:
        """That side has it, in that state and at rest; nothing else is left of it anywhere, and nobody noticed."""
        (other,) = [side for side in self.sides if side is not owner]
        until(lambda: not other.has(self.uuid, or_expects=True), _SECONDS)
        until(lambda: owner.guests.view(self.uuid).task is None, _SECONDS)
        view = owner.guests.view(self.uuid)
        assert (view.vm_state, view.power_state) == (state, _POWER[state]), view
        self._assert_nothing_is_left()
        for side, before in zip(self.sides, self._bystanders, strict=True):
            now = side.guests.view(before.instance.uuid)
            assert (now.vm_state, now.power_state, now.pid) == (before.vm_state, before.power_state, before.pid), now

    def _assert_nothing_is_left(self) -> None:
        for side in self.sides:
            side.node.kill()
        one, other = self.sides
        left = [*one.leftovers(other), *other.leftovers(one)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda side: side.node.start(), self.sides))
        assert left == []
