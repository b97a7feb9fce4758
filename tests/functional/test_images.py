"""The image cache of a real agent under a limit: what makes room, and what stays because a disk stands on it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.block_device import BlockDevice, Image
from compute_agent.instance.model import Instance
from sandbox import audit, images
from sandbox.broker import Broker
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, source

COMPUTECTL = Path(sys.executable).with_name("computectl")
MIB = 1024**2
IMAGE = 8 * MIB


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch) -> Iterator[Node]:
    """Its cache has room for the tiny guest's kernel and ramdisk, and for two images."""
    kernel_and_ramdisk = sum(path.stat().st_size for path in (images.kernel(), images.ramdisk()))
    limit = (kernel_and_ramdisk + 2 * IMAGE) // MIB + 1
    node = Node(directory / "im", broker.transport_url, switch.connection, host="images")
    node.storage = f"image_cache_size_mb = {limit}\npreallocation = metadata"
    with node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []


def on_image(node: Node, number: int) -> Instance:
    """An order for a tiny guest with a disk on an image of its own."""
    path = node.image_source / f"image{number}.raw"
    if not path.exists():
        path.write_bytes(bytes([number]) * 4096 + os.urandom(IMAGE - 4096))
    file = source(path)
    image = Image(url=file.url, checksum=file.checksum, disk_format="raw")
    return an_order(block_devices=[BlockDevice(source_type="image", image=image, size_gb=1)])


def cached(guests: Guests) -> dict[str, int]:
    """How many disks stand on each image of the cache, by its checksum."""
    return {image.checksum: image.used_by for image in guests.client.list_images() if image.kind == "raw"}


def checksum(order: Instance) -> str:
    image = order.block_devices[0].image
    assert image is not None
    return image.checksum


def test_only_what_no_disk_stands_on_makes_room(node: Node, guests: Guests) -> None:
    stays, goes, comes, waits = (on_image(node, number) for number in range(1, 5))
    guests.boot(stays)
    guests.finish(guests.client.stop_instance(stays.uuid, timeout=0))
    guests.finish(guests.client.terminate_instance(guests.boot(goes).uuid))
    assert cached(guests) == {checksum(stays): 1, checksum(goes): 0}
    node.restart()  # what stands on what is found again
    guests.boot(comes)
    assert cached(guests) == {checksum(stays): 1, checksum(comes): 1}
    refused = guests.fail(guests.client.build_and_run_instance(waits))
    assert refused.fault is not None and refused.fault.type == "InsufficientResources"
    assert "image_cache_size_mb" in refused.fault.message
    guests.finish(guests.client.start_instance(stays.uuid))
    guests.await_console(stays.uuid, "GUEST READY", times=2)


def test_a_host_accounts_for_its_space(node: Node, guests: Guests) -> None:
    guests.boot(on_image(node, 1))
    storage = guests.client.get_host()["storage"]
    local, cache = storage["qcow2"], storage["images"]
    assert local["provisioned"] >= 1024 * MIB
    assert 0 < local["allocated"] < local["total"]
    assert IMAGE < cache["size"] <= cache["limit"]
    assert 0 < cache["in_use"] <= cache["count"]


def test_what_nobody_uses_is_pruned(node: Node, guests: Guests) -> None:
    stays, goes = on_image(node, 1), on_image(node, 2)
    guests.boot(stays)
    guests.finish(guests.client.terminate_instance(guests.boot(goes).uuid))
    pruned = json.loads(run(COMPUTECTL, "--config-file", node.config_file, "image", "prune", "-f", "json"))
    assert checksum(goes) in [image["checksum"] for image in pruned]
    assert cached(guests) == {checksum(stays): 1}
    guests.finish(guests.client.reboot_instance(stays.uuid, reboot_type="HARD"))
    guests.await_console(stays.uuid, "GUEST READY", times=2)
