"""Two hundred operations at once on twenty instances: each gets one answer, and all of them fit one order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest

from compute_agent import errors
from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.view import Accepted, OperationState, OperationView
from compute_agent.rpc.client import ComputeClient
from sandbox import audit, images
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import BOOT_SECONDS, Guests, a_port, an_order
from tests.lifecycle import GONE, RUNNING, VERBS, after

SEEDS = os.environ.get("MANY_OPERATIONS_SEEDS", "1").split()
INSTANCES, OPERATIONS, AT_ONCE = 20, 200, 40
_TWICE = 0.1
"""Of the requests are sent twice."""
_HALTED = bytes.fromhex("fa f4 eb fd")  # cli; hlt; jmp
_REFUSALS = (errors.InvalidState, errors.InstanceNotFound, errors.InstanceExists)


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


@pytest.fixture
def orders(node: Node) -> list[Instance]:
    """Guests that do nothing, and take next to nothing."""
    path = node.image_source / "halted.raw"
    path.write_bytes(_HALTED.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024**2 - 512))
    return [_an_instance(path) for _ in range(INSTANCES)]


def _an_instance(path: Path) -> Instance:
    image = Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")
    return an_order(
        ports=0,
        flavor=Flavor(vcpus=1, memory_mb=16),
        block_devices=[BlockDevice(source_type="image", image=image, size_gb=1, boot_index=0)],
        **{"direct_boot": None, "config_drive": False},
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_fits_one_order(
    guests: Guests, node: Node, switch: Switch, orders: list[Instance], seed: str
) -> None:
    random = Random(seed)
    with_ports = [msgspec.structs.replace(one, ports=[a_port()]) for one in orders]
    boots = [Order("boot", one, str(uuid.uuid4())) for one in with_ports]
    others = [_an_order_for(random, random.choice(with_ports)) for _ in range(OPERATIONS)]
    send = partial(_send, node.client)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # what is booting when the others come
        answers = [*pool.map(send, boots), *pool.map(send, _some_twice(random, others))]
    ended = {
        answer.order.request_id: node.client.wait(answer.order.request_id, BOOT_SECONDS)
        for answer in answers
        if isinstance(answer.said, Accepted)
    }
    print(f"seed {seed}: {len(answers)} requests, {len(ended)} operations")
    for instance in with_ports:
        _require_order(node.client, instance, [one for one in answers if one.order.instance is instance], ended)
    views = guests.client.list_instances()
    assert len(node.qemu_pids()) == sum(view.vm_state in RUNNING for view in views)
    guests.terminate_all()
    assert audit.leftovers(node, switch) == []


def _an_order_for(random: Random, instance: Instance) -> Order:
    verb = random.choice([verb for verb in VERBS if verb not in ("terminate", "boot")] * 3 + ["terminate", "boot"])
    return Order(verb, instance, str(uuid.UUID(int=random.getrandbits(128))))


def _some_twice(random: Random, orders: Sequence[Order]) -> Iterator[Order]:
    for one in orders:
        yield from [one] * (1 + (random.random() < _TWICE))


def _send(client: ComputeClient, order: Order) -> Answer:
    target, request_id = order.instance.uuid, order.request_id
    try:
        match order.verb.split():
            case ["boot"]:
                return Answer(order, client.build_and_run_instance(order.instance, request_id))
            case ["stop"]:
                return Answer(order, client.stop_instance(target, request_id, timeout=0))
            case [kind, "reboot"]:
                chosen = {"reboot_type": kind.upper(), "timeout": 0}
                return Answer(order, client.reboot_instance(target, request_id, **chosen))
            case [verb]:
                return Answer(order, getattr(client, f"{verb}_instance")(target, request_id))
    except _REFUSALS as refused:
        return Answer(order, refused)
    raise AssertionError(order.verb)


def _require_order(
    client: ComputeClient, instance: Instance, answers: Sequence[Answer], ended: dict[str, OperationView]
) -> None:
    """As they ended, so they were done: one after the other, each as the state before it allows."""
    accepted = {one.order.request_id: one.order.verb for one in answers if isinstance(one.said, Accepted)}
    done = sorted((ended[request_id] for request_id in accepted), key=lambda one: one.finished_at or 0)
    assert {one.request_id for one in client.list_operations(instance.uuid)} == set(accepted), "exactly these"
    state, seen = GONE, {GONE}
    for one in done:
        new = after(state, accepted[one.request_id])
        assert one.state is (OperationState.FAILED if new is None else OperationState.DONE), (state, one)
        assert new is not None or (one.fault and one.fault.type in [kind.__name__ for kind in _REFUSALS]), one
        state = new or state
        seen.add(state)
    left = {view.instance.uuid: view.vm_state for view in client.list_instances()}
    assert left.get(instance.uuid, GONE) == state
    for one in answers:
        _require_reason(one, seen, set(accepted.values()))


def _require_reason(answer: Answer, seen: set[str], accepted: set[str]) -> None:
    """What was refused at once was in the way of a state that the instance has had."""
    if isinstance(answer.said, errors.InvalidState):
        assert answer.said.args[2] in seen, answer
    elif isinstance(answer.said, errors.InstanceExists):
        assert answer.order.verb == "boot"
    elif isinstance(answer.said, errors.InstanceNotFound):
        assert "terminate" in accepted
