"""Instances with volumes in a directory that two hosts share go from one to the other: two agents on one machine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from sandbox import audit
from sandbox.broker import Broker
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import run_inside
from tests.functional.test_volumes import a_file_volume, path_of

WRITE = "for disk in /dev/vd?; do echo {} | dd of=$disk bs=512 seek={} conv=sync,fsync || exit; done"
READ = "for disk in /dev/vd?; do dd if=$disk bs=512 skip={} count=1 | head -c 5; done"


@pytest.fixture(scope="module")
def hosts(directory: Path, broker: Broker, switch: Switch) -> Iterator[tuple[Guests, Guests]]:
    """What one of them has left fails the module."""
    one, other = (
        Node(directory / f"s{name}", broker.transport_url, switch.connection, host=f"shared-{name}") for name in "ab"
    )
    other.volumes = one.volumes
    with one, other:
        yield Guests(one), Guests(other)
        for node in (one, other):
            Guests(node).terminate_all()
        for node in (one, other):
            assert audit.leftovers(node, switch) == []


def a_guest(guests: Guests, *disks: BlockDevice) -> Instance:
    order = guests.boot(an_order(ports=0, config_drive=False, block_devices=list(disks)))
    run_inside(guests, order.uuid, WRITE.format("first", 7))
    return order


def an_own_disk() -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1)


def assert_kept(guests: Guests, order: Instance, **written: int) -> None:
    """It runs there, and finds what it wrote."""
    until(lambda: guests.view(order.uuid).vm_state is VmState.ACTIVE)
    guests.await_console(order.uuid, "GUEST READY")
    for word, sector in written.items():
        assert run_inside(guests, order.uuid, READ.format(sector)).count(word) == len(order.block_devices)


def beside(device: BlockDevice) -> dict[str, str]:
    """What there is beside a volume, by what its name adds, and what it says."""
    path = path_of(device)
    return {one.name.removeprefix(path.name): one.read_text() for one in path.parent.glob(f"{path.name}.*")}


def test_a_stopped_instance_goes_to_another_host_and_comes_back(hosts: tuple[Guests, Guests]) -> None:
    here, there = hosts
    volume = a_file_volume(here.node)
    order = a_guest(here, an_own_disk(), volume)
    here.finish(here.client.stop_instance(order.uuid, timeout=0))
    here.finish(here.client.migrate_instance(order.uuid, there.node.host))
    until(lambda: there.view(order.uuid).task is None)
    assert beside(volume) == {}
    there.finish(there.client.start_instance(order.uuid))
    assert_kept(there, order, first=7)
    assert beside(volume) == {".owner": f"shared-b, instance {order.uuid}\n"}
    run_inside(there, order.uuid, WRITE.format("other", 9))
    there.finish(there.client.migrate_instance(order.uuid, here.node.host, stop=True))
    assert_kept(here, order, first=7, other=9)
    assert beside(volume) == {".owner": f"shared-a, instance {order.uuid}\n"}
    here.finish(here.client.terminate_instance(order.uuid))
    assert beside(volume) == {}
    assert path_of(volume).exists()


def test_a_volume_with_a_snapshot_goes_with_it_and_can_lose_it_there(hosts: tuple[Guests, Guests]) -> None:
    here, there = hosts
    volume, snapshot = a_file_volume(here.node), str(uuid.uuid4())
    order = a_guest(here, volume)
    here.finish(here.client.volume_snapshot_create(order.uuid, "disk0", snapshot))
    run_inside(here, order.uuid, WRITE.format("other", 9))
    here.finish(here.client.migrate_instance(order.uuid, there.node.host, stop=True))
    assert_kept(there, order, first=7, other=9)
    there.finish(there.client.volume_snapshot_delete(order.uuid, "disk0", snapshot))
    assert_kept(there, order, first=7, other=9)
    assert set(beside(volume)) == {".owner"}
    there.finish(there.client.terminate_instance(order.uuid))


@pytest.fixture
def stranger(hosts: tuple[Guests, Guests]) -> Iterator[Guests]:
    """The second host, with a directory of its own where the first one has its volumes, and the same names in it."""
    _, there = hosts
    node, program = there.node, there.node.program
    own = node.directory / "own"
    mounted = f'cp -a {node.volumes} {own} && mount --bind {own} {node.volumes} && exec "$0" "$@"'
    node.stop()
    node.program = ["unshare", "--mount", "sh", "-c", mounted, *program]
    node.start()
    yield there
    node.stop()
    node.program = program
    node.start()


def test_a_directory_that_is_not_shared_is_told_from_one_that_is(
    hosts: tuple[Guests, Guests], request: pytest.FixtureRequest
) -> None:
    here, _ = hosts
    volume = a_file_volume(here.node)
    order = a_guest(here, volume)
    stranger: Guests = request.getfixturevalue("stranger")
    for stop in (True, False):
        if not stop:
            here.finish(here.client.stop_instance(order.uuid, timeout=0))
        refused = here.fail(here.client.migrate_instance(order.uuid, stranger.node.host, stop=stop))
        assert refused.fault is not None
        reason = "is not the file that shared-a has: it is not on a file system that both share"
        assert (refused.fault.type, refused.fault.message) == (
            "MigrationRefused",
            f"disk0: {path_of(volume)} {reason}",
        )
        assert stranger.client.list_instances() == []
    assert beside(volume) == {}
    here.finish(here.client.start_instance(order.uuid))
    here.await_console(order.uuid, "GUEST READY", times=2)
    assert_kept(here, order, first=7)
