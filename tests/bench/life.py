"""Promises 1 and 2: accepting, creating and destroying a guest, against the same done by hand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.bench.by_hand import GuestByHand, arguments_of
from tests.bench.comparison import at_once, compared, seconds
from tests.bench.ends import Ends
from tests.functional.guests import an_order, halting_image

ROUNDS = 10
MANY = 30

Pair = tuple[float, float]


class ByAgent:
    """A controller of one node, which hears of an operation's end as controllers do."""

    def __init__(self, node: Node, transport_url: str) -> None:
        self._client = node.client
        self.image_file = node.image_source / "halt.raw"
        self._image = halting_image(self.image_file)
        self._ends = Ends(transport_url)

    def close(self) -> None:
        """Stop listening."""
        self._ends.close()

    def order(self) -> Instance:
        """What `GuestByHand` makes: one disk on an image that is in the cache, and one port."""
        disk = BlockDevice(source_type="image", image=self._image, size_gb=1)
        return msgspec.structs.replace(an_order(), block_devices=[disk], direct_boot=None, config_drive=False)

    def create(self, order: Instance) -> None:
        """On return it runs."""
        self._ends.await_end(self._client.build_and_run_instance(order))

    def destroy(self, order: Instance) -> None:
        """On return nothing of it is left."""
        self._ends.await_end(self._client.terminate_instance(order.uuid))

    def pid(self, order: Instance) -> int:
        """Of its QEMU."""
        return self._client.get_instance(order.uuid).pid or 0

    def accept(self, order: Instance) -> Pair:
        """Seconds until a boot was accepted, and those of a call that does nothing."""
        accepting = seconds(lambda: self._client.build_and_run_instance(order))
        self.destroy(order)
        return accepting, seconds(lambda: self._client.list_operations(limit=1))


def run(node: Node, broker: Broker, switch: Switch, directory: Path) -> Iterator[object]:
    """Turn by turn, first one guest at a time, then many at once. Each result is a line when printed."""
    with closing(ByAgent(node, broker.transport_url)) as agent:
        model = _model(agent)
        yield from _measure(agent, lambda: GuestByHand(model, directory, switch.connection, "br-int"))


def _measure(agent: ByAgent, by_hand: Callable[[], GuestByHand]) -> Iterator[object]:
    created, destroyed = _one_at_a_time(agent, by_hand)
    many_created, many_destroyed = _many_at_once(agent, by_hand)
    yield compared("create to running", created, 1.3, "by hand")
    yield compared("destroy", destroyed, 1.5, "by hand")
    yield compared(f"create {MANY} at once", many_created, 1.3, "by hand")
    yield compared(f"destroy {MANY} at once", many_destroyed, 1.5, "by hand")
    accepting, empty = zip(*(agent.accept(agent.order()) for _ in range(ROUNDS)), strict=True)
    beyond = (statistics.median(accepting) - statistics.median(empty)) * 1000
    yield f"accept a boot, durably: {beyond:.1f} ms beyond a call that does nothing (goal 20 ms)"


def _model(agent: ByAgent) -> list[str]:
    """The agent's first guest: it also fills the image cache, and its arguments are what the others get by hand."""
    order = agent.order()
    agent.create(order)
    arguments = arguments_of(agent.pid(order), agent.image_file)
    agent.destroy(order)
    return arguments


def _one_at_a_time(agent: ByAgent, by_hand: Callable[[], GuestByHand]) -> tuple[list[Pair], list[Pair]]:
    created, destroyed = [], []
    for _ in range(ROUNDS):
        order, hand = agent.order(), by_hand()
        ours = seconds(lambda order=order: agent.create(order)), seconds(lambda order=order: agent.destroy(order))
        theirs = seconds(hand.create), seconds(hand.destroy)
        created.append((ours[0], theirs[0]))
        destroyed.append((ours[1], theirs[1]))
    return created, destroyed


def _many_at_once(agent: ByAgent, by_hand: Callable[[], GuestByHand]) -> tuple[list[Pair], list[Pair]]:
    orders, hands = [agent.order() for _ in range(MANY)], [by_hand() for _ in range(MANY)]
    with ThreadPoolExecutor(MANY) as pool:
        ours = [
            at_once(pool, [lambda one=one: agent.create(one) for one in orders]),
            at_once(pool, [lambda one=one: agent.destroy(one) for one in orders]),
        ]
        theirs = [at_once(pool, [one.create for one in hands]), at_once(pool, [one.destroy for one in hands])]
    return [(ours[0], theirs[0])], [(ours[1], theirs[1])]
