"""A disk of the host is full where a boot needs room: it fails by name and leaves nothing; with room it goes well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from compute_agent.instance.state import VmState
from sandbox import audit
from sandbox.broker import Broker
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order
from tests.functional.test_full_journal import no_room

PLACES = ("images", "disks")
"""Of the cache, and of the instances' disks."""


@pytest.fixture(scope="module")
def places(directory: Path) -> Iterator[Mapping[str, Path]]:
    """Each a file system of its own."""
    places = {name: directory / "filled" / name for name in PLACES}
    for place in places.values():
        place.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place)
    yield places
    for place in places.values():
        run("umount", "--lazy", place)


@pytest.fixture(scope="module")
def node(directory: Path, places: Mapping[str, Path], broker: Broker, switch: Switch) -> Iterator[Node]:
    node = Node(directory / "filled", broker.transport_url, switch.connection, host="filled")
    node.storage = f"disk_dir = {places['disks']}\nimage_dir = {places['images']}\nreserved_space = 0"
    with node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


@pytest.mark.parametrize("name", PLACES)
def test_a_boot_without_room_fails_by_name_and_leaves_nothing(
    guests: Guests, places: Mapping[str, Path], switch: Switch, name: str
) -> None:
    guests.client.prune_images()
    order, held = an_order(), held_in(places)
    with no_room(places[name]):
        failed = guests.fail(guests.client.build_and_run_instance(order))
        assert failed.fault is not None
        assert failed.fault.type == "InsufficientResources"
        assert "No space left" in failed.fault.message or "not enough space" in failed.fault.message
        assert guests.view(order.uuid).vm_state is VmState.ERROR
        assert {path for path in held_in(places) - held if order.uuid in str(path) or path.suffix == ".part"} == set()
        assert guests.node.running() == []
        guests.finish(guests.client.terminate_instance(order.uuid))
        assert audit.leftovers(guests.node, switch) == []
    guests.boot(order)


def held_in(places: Mapping[str, Path]) -> set[Path]:
    return {path for place in places.values() for path in place.rglob("*") if path.name != "filler"}
