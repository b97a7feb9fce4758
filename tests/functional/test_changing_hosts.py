"""Instances change their host while they do not run, between two agents on one machine, with a real cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.cli.failure import ExitStatus
from compute_agent.instance.block_device import Backend, BlockDevice
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from sandbox import audit
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, until
from tests.functional.operator import Operator
from tests.functional.shell import run_inside

WRITE = "for disk in /dev/vd?; do echo kept | dd of=$disk bs=512 seek=7 conv=sync,fsync; done"
READ = "for disk in /dev/vd?; do dd if=$disk bs=512 skip=7 count=1 | head -c 5; done"


@pytest.fixture(scope="module")
def hosts(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[tuple[Guests, Guests]]:
    """What one of them has left fails the module."""
    url, connection = broker.transport_url, switch.connection
    with (
        Node(directory / "ha", url, connection, host="host-a", ceph=ceph) as one,
        Node(directory / "hb", url, connection, host="host-b", ceph=ceph) as other,
    ):
        yield Guests(one), Guests(other)
        for node in (one, other):
            Guests(node).terminate_all()
        for node in (one, other):
            assert audit.leftovers(node, switch) == []


def a_guest(guests: Guests, *backends: Backend) -> Instance:
    """With something on each of its disks."""
    disks = [BlockDevice(source_type="blank", size_gb=1, backend=backend) for backend in backends]
    order = guests.boot(an_order(ports=0, config_drive=False, block_devices=disks))
    run_inside(guests, order.uuid, WRITE)
    return order


def assert_kept(guests: Guests, order: Instance) -> None:
    """It runs there, and finds what it wrote."""
    until(lambda: guests.view(order.uuid).vm_state is VmState.ACTIVE)
    guests.await_console(order.uuid, "GUEST READY")
    assert run_inside(guests, order.uuid, READ).count("kept") == len(order.block_devices)


def is_on(guests: Guests, order: Instance) -> bool:
    return order.uuid in {one.instance.uuid for one in guests.client.list_instances()}


def test_a_stopped_instance_goes_to_another_host_and_comes_back(hosts: tuple[Guests, Guests]) -> None:
    here, there = hosts
    order = a_guest(here, "qcow2", "rbd")
    here.finish(here.client.stop_instance(order.uuid, timeout=0))
    here.finish(here.client.migrate_instance(order.uuid, there.node.host))
    assert not is_on(here, order)
    until(lambda: there.view(order.uuid).task is None)
    assert there.view(order.uuid).vm_state is VmState.STOPPED
    there.finish(there.client.start_instance(order.uuid))
    assert_kept(there, order)
    there.finish(there.client.migrate_instance(order.uuid, here.node.host, stop=True))
    assert_kept(here, order)
    assert here.view(order.uuid).epoch == 2 and not is_on(there, order)


def test_a_disk_with_a_snapshot_goes_with_it_and_can_lose_it_there(hosts: tuple[Guests, Guests]) -> None:
    here, there = hosts
    order, snapshot = a_guest(here, "qcow2"), str(uuid.uuid4())
    here.finish(here.client.volume_snapshot_create(order.uuid, "disk0", snapshot))
    run_inside(here, order.uuid, "dd if=/dev/zero of=/dev/vda bs=512 seek=9 count=1 conv=fsync")
    here.finish(here.client.migrate_instance(order.uuid, there.node.host, stop=True))
    assert_kept(there, order)
    there.finish(there.client.volume_snapshot_delete(order.uuid, "disk0", snapshot))
    assert run_inside(there, order.uuid, READ).count("kept") == 1
    names = {path.name for path in (there.node.directory / "state/disks" / order.uuid).iterdir()}
    assert names == {"disk0.qcow2"}
    there.finish(there.client.migrate_instance(order.uuid, here.node.host, stop=True))
    assert_kept(here, order)


def test_an_instance_is_taken_from_a_host_that_is_dead(
    hosts: tuple[Guests, Guests], ceph: Ceph, tmp_path: Path
) -> None:
    dead, there = hosts
    order = a_guest(dead, "rbd")
    operator, record = Operator(there.node), tmp_path / "record.json"
    record.write_text(Operator(dead.node).types("record", order.uuid).stdout)
    evacuate = ["evacuate", str(record), "--dead", dead.node.host, "--request-id", str(uuid.uuid4()), "--wait"]
    assert "its agent answers" in operator.types(*evacuate, status=ExitStatus.FAILED).stderr
    dead.node.kill()
    for _ in range(2):
        operator.types("--rpc-timeout", "5", *evacuate)
    operator.types("start", order.uuid, "--wait")
    assert_kept(there, order)
    dead.node.start()  # its guest has lived on, and could write nothing
    until(lambda: not is_on(dead, order))
    assert order.uuid not in {path.name for path in (dead.node.directory / "state/disks").iterdir()}
    assert_kept(there, order)
    assert f"{order.uuid}_disk0" in ceph.rbd("ls", ceph.pool).split()
