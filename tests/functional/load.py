"""Random operations on many instances, and whether all that was said about them fits one order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from threading import Event
from types import TracebackType
from typing import TypeVar

from compute_agent import errors
from compute_agent.errors import DeadlineExceeded, HostError
from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.view import Accepted, OperationState, OperationView
from compute_agent.rpc.client import ComputeClient
from sandbox.node import Node
from tests.functional.guests import an_order, halting_image
from tests.lifecycle import GONE, VERBS, after

T = TypeVar("T")

REFUSALS = (errors.InvalidState, errors.InstanceNotFound, errors.InstanceExists)
_PATIENCE = 1800.0
"""Seconds until an answer, or an end, is believed to be lost: several outages of a broker."""
_ANSWER_SECONDS = 5.0
_PAUSE = 0.2
_BOOTS = 8
"""Of 33 orders: there is a life to change, mostly."""
_MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for."""

    verb: str
    instance: Instance
    request_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said to it."""

    order: Order
    said: Accepted | errors.ComputeAgentError


def idle_instances(node: Node, number: int) -> list[Instance]:
    """Guests that do nothing, and take next to nothing; each has a port."""
    image = halting_image(node.image_source / "halted.raw")
    return [_an_instance(image) for _ in range(number)]


def _an_instance(image: Image) -> Instance:
    return an_order(
        ports=1,
        flavor=Flavor(vcpus=1, memory_mb=16),
        block_devices=[BlockDevice(source_type="image", image=image, size_gb=1, boot_index=0)],
        **{"direct_boot": None, "config_drive": False},
    )


def an_order_for(random: Random, instance: Instance, boots: int = 1) -> Order:
    """Any verb; that which ends a life less often, and that which begins it as often as you like."""
    others = [verb for verb in VERBS if verb not in ("terminate", "boot")]
    verb = random.choice(others * 3 + ["terminate"] + ["boot"] * boots)
    return Order(verb, instance, str(uuid.UUID(int=random.getrandbits(128))))


def send(client: ComputeClient, order: Order) -> Answer:
    """:raises DeadlineExceeded: nothing was said."""
    try:
        return Answer(order, _ask(client, order))
    except REFUSALS as refused:
        return Answer(order, refused)


def _ask(client: ComputeClient, order: Order) -> Accepted:
    target, request_id = order.instance.uuid, order.request_id
    match order.verb.split():
        case ["boot"]:
            return client.build_and_run_instance(order.instance, request_id)
        case ["stop"]:
            return client.stop_instance(target, request_id, timeout=0)
        case ["soft", "reboot"]:
            return client.reboot_instance(target, request_id, reboot_type="SOFT", timeout=0)
        case ["hard", "reboot"]:
            return client.reboot_instance(target, request_id, reboot_type="HARD", timeout=0)
    accepted: Accepted = getattr(client, f"{order.verb}_instance")(target, request_id)
    return accepted


class Load:
    """Controllers, each of which asks for one thing after the other, and again where it gets no answer.

    A context manager; at its end all that was accepted is over.
    """

    def __init__(self, node: Node, instances: Sequence[Instance], seed: str, controllers: int) -> None:
        self.answers: list[Answer] = []
        self._client = ComputeClient(node.client.transport, node.host, _ANSWER_SECONDS)
        self._instances = instances
        self._randoms = [Random(f"{seed}-{at}") for at in range(controllers)]
        self._pool = ThreadPoolExecutor(controllers)
        self._enough = Event()

    def __enter__(self) -> Load:
        self._controllers = [self._pool.submit(self._control, random) for random in self._randoms]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._pool.shutdown()
        if error is None:
            for controller in self._controllers:
                controller.result()

    def _control(self, random: Random) -> None:
        while not self._enough.is_set():
            order = an_order_for(random, random.choice(self._instances), _BOOTS)
            answer = _insist(partial(send, self._client, order))
            self.answers.append(answer)
            if isinstance(answer.said, Accepted):
                _insist(partial(self._client.wait, order.request_id, _PATIENCE))


def _insist(ask: Callable[[], T]) -> T:
    """Ask again while nobody is there, or nobody answers."""
    due = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except (DeadlineExceeded, HostError):
            if time.monotonic() > due:
                raise
            time.sleep(_PAUSE)


def require_one_order(client: ComputeClient, instances: Sequence[Instance], answers: Sequence[Answer]) -> None:
    """All that was accepted is over, and fits one order of each instance's operations; nothing else was done."""
    left = {view.instance.uuid: str(view.vm_state) for view in client.list_instances()}
    for instance in instances:
        said = [one for one in answers if one.order.instance is instance]
        operations = client.list_operations(instance.uuid, limit=_MOST_LISTED)
        state = _require_order(said, operations)
        assert left.get(instance.uuid, GONE) == state, instance.uuid


def _require_order(answers: Sequence[Answer], operations: Sequence[OperationView]) -> str:
    """As they ended, so they were done: one after the other, each as the state before it allows. The last state."""
    accepted = {one.order.request_id: one.order.verb for one in answers if isinstance(one.said, Accepted)}
    assert {one.request_id for one in operations} == set(accepted), "exactly these"
    assert all(one.finished_at for one in operations), "all of them"
    state, seen = GONE, {GONE}
    for one in sorted(operations, key=lambda one: one.finished_at or 0):
        new = after(state, accepted[one.request_id])
        assert one.state is (OperationState.FAILED if new is None else OperationState.DONE), (state, one)
        assert new is not None or (one.fault and one.fault.type in [kind.__name__ for kind in REFUSALS]), one
        state = new or state
        seen.add(state)
    for answer in answers:
        _require_reason(answer, seen, set(accepted.values()))
    return state


def _require_reason(answer: Answer, seen: set[str], accepted: set[str]) -> None:
    """What was refused at once was in the way of a state that the instance has had."""
    if isinstance(answer.said, errors.InvalidState):
        assert answer.said.args[2] in seen, answer
    elif isinstance(answer.said, errors.InstanceExists):
        assert answer.order.verb == "boot"
    elif isinstance(answer.said, errors.InstanceNotFound):
        assert answer.order.verb != "boot" or "terminate" in accepted
