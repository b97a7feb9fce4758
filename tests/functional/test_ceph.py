"""Disks in Ceph, as a controller orders them: own ones and volumes, through outages and deaths, on a real cluster."""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice, Image, RbdConnection, RbdVolume
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState
from compute_agent.rpc.channel import Channel
from compute_agent.storage.server.launch import find_servers
from sandbox import audit, images
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import attach, await_inside, run_inside

MIB = 1024**2


@pytest.fixture(scope="module")
def ceph(directory: Path) -> Iterator[Ceph]:
    with Ceph(directory / "cq", store="bluestore") as ceph:
        yield ceph


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[Node]:
    """An agent that makes disks in the cluster; what it has left there fails the module."""
    with Node(directory / "cn", broker.transport_url, switch.connection, host="ceph-node", ceph=ceph) as node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []
        assert find_servers(node.directory / "run/servers") == {}
        assert ceph.key not in node.log.read_text() + node.config_file.read_text()
        assert ceph.key.encode() not in (node.directory / "state/journal.sqlite").read_bytes()


@pytest.fixture
def volume(ceph: Ceph) -> Iterator[BlockDevice]:
    """What Cinder would have made; it must be left as nobody's."""
    volume_id = str(uuid.uuid4())
    name = f"volume-{volume_id}"
    ceph.rbd("create", f"{ceph.pool}/{name}", "--size", "64M")
    data = RbdVolume(name=f"{ceph.pool}/{name}", auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    yield BlockDevice(source_type="volume", volume_id=volume_id, connection_info=RbdConnection(data=data))
    until(lambda: "Watchers: none" in ceph.rbd("status", f"{ceph.pool}/{name}"), 40)
    ceph.rbd("rm", "--no-progress", f"{ceph.pool}/{name}")


def in_ceph(**changes: object) -> BlockDevice:
    return BlockDevice(**{"source_type": "blank", "backend": "rbd", "size_gb": 1} | changes)


def a_guest(guests: Guests, *devices: BlockDevice) -> Instance:
    return guests.boot(an_order(config_drive=False, block_devices=list(devices) or [in_ceph()]))


def write(guests: Guests, instance_uuid: str, disk: str, text: str, at: int) -> None:
    """`at` counts sectors."""
    run_inside(guests, instance_uuid, f"echo {text} | dd of=/dev/{disk} bs=512 seek={at} conv=sync,fsync")


def content(ceph: Ceph, image: str, at: int, directory: Path) -> str:
    """A sector of an image, read by somebody else."""
    path = directory / f"{uuid.uuid4()}.raw"
    ceph.rbd("export", "--no-progress", f"{ceph.pool}/{image}", str(path))
    with path.open("rb") as file:
        file.seek(at * 512)
        text = file.read(512).rstrip(b"\0").decode().strip()
    path.unlink()
    return text


def images_of(ceph: Ceph) -> list[str]:
    return [name for name in ceph.rbd("ls", ceph.pool).split() if not name.startswith(("image-", "volume-"))]


@contextmanager
def away(ceph: Ceph, *daemons: str) -> Iterator[None]:
    """SIGKILL, and started again with what they had written."""
    for daemon in daemons:
        ceph.kill_daemon(daemon)
    try:
        yield
    finally:
        for daemon in daemons:
            ceph.start_daemon(daemon)


def server_pid(node: Node, instance_uuid: str) -> int:
    return find_servers(node.directory / "run/servers")[instance_uuid].pid


def test_a_disk_in_ceph_lives_and_goes_with_its_instance(ceph: Ceph, guests: Guests, directory: Path) -> None:
    guest = a_guest(guests)
    write(guests, guest.uuid, "vda", "kept", at=7)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    assert content(ceph, f"{guest.uuid}_disk0", 7, directory) == "kept"
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert "kept" in run_inside(guests, guest.uuid, "dd if=/dev/vda bs=512 skip=7 count=1")
    guests.finish(guests.client.terminate_instance(guest.uuid))
    until(lambda: images_of(ceph) == [])


def test_a_root_disk_is_a_clone_of_an_image_that_is_uploaded_once(ceph: Ceph, guests: Guests, node: Node) -> None:
    path = node.image_source / "pattern.raw"
    path.write_bytes(b"pattern".ljust(MIB, b"\0"))
    image = Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")
    order = in_ceph(source_type="image", image=image)
    first, second = a_guest(guests, order), a_guest(guests, order)
    for guest in (first, second):
        assert "pattern" in run_inside(guests, guest.uuid, "dd if=/dev/vda bs=512 count=1")
        assert "parent: " in ceph.rbd("info", f"{ceph.pool}/{guest.uuid}_disk0")
    (uploaded,) = [name for name in ceph.rbd("ls", ceph.pool).split() if name.startswith("image-")]
    in_glance = Image(url=f"rbd://{ceph.fsid}/{ceph.pool}/{uploaded}/base", checksum=image.checksum, disk_format="raw")
    third = a_guest(guests, BlockDevice(source_type="image", image=in_glance, size_gb=1))
    assert "pattern" in run_inside(guests, third.uuid, "dd if=/dev/vda bs=512 count=1")


def test_a_volume_comes_grows_and_goes_and_has_one_writer(
    ceph: Ceph, guests: Guests, node: Node, volume: BlockDevice, directory: Path
) -> None:
    first, second = a_guest(guests), a_guest(guests)
    attach(guests, first.uuid, volume)
    write(guests, first.uuid, "vdb", "first", at=3)
    refused = guests.fail(guests.client.attach_volume(second.uuid, volume))
    assert refused.fault is not None and refused.fault.type == "DiskInUse"
    assert node.host in refused.fault.message and first.uuid in refused.fault.message
    guests.finish(guests.client.extend_volume(first.uuid, str(volume.volume_id), 1))
    await_inside(guests, first.uuid, f"[ $(cat /sys/block/vdb/size) = {2 * MIB} ]")
    write(guests, first.uuid, "vdb", "behind", at=MIB)
    guests.finish(guests.client.detach_volume(first.uuid, str(volume.volume_id)))
    attach(guests, second.uuid, volume)
    assert "behind" in run_inside(guests, second.uuid, f"dd if=/dev/vdb bs=512 skip={MIB} count=1")
    guests.finish(guests.client.terminate_instance(second.uuid))
    assert content(ceph, f"volume-{volume.volume_id}", 3, directory) == "first"


def test_monitors_addresses_are_taken_from_the_node_and_never_kept(
    ceph: Ceph, guests: Guests, node: Node, volume: BlockDevice
) -> None:
    """Cinder's connection_info as it is; the address in it is nobody's."""
    guest = a_guest(guests)
    assert isinstance(volume.connection_info, RbdConnection)
    data = {
        **{"name": volume.connection_info.data.name, "cluster_name": "ceph", "auth_enabled": True},
        **{"hosts": ["192.0.2.1"], "ports": ["6789"], "secret_type": "ceph", "secret_uuid": ceph.secret_uuid},
        **{"auth_username": ceph.user, "volume_id": volume.volume_id, "discard": True, "qos_specs": None},
        **{"access_mode": "rw", "encrypted": False, "cacheable": False},
    }
    device = {
        **{"source_type": "volume", "volume_id": volume.volume_id},
        **{"connection_info": {"driver_volume_type": "rbd", "data": data}},
    }
    channel = Channel(guests.client.transport, node.host, 10)
    request_id = str(uuid.uuid4())
    channel.call("attach_volume", {"instance_uuid": guest.uuid, "request_id": request_id, "block_device": device})
    assert guests.client.wait(request_id, 30).fault is None
    assert b"192.0.2.1" not in (node.directory / "state/journal.sqlite").read_bytes()
    guests.finish(guests.client.detach_volume(guest.uuid, str(volume.volume_id)))


@pytest.fixture
def other_cluster(ceph: Ceph, directory: Path) -> Iterator[Ceph]:
    """A second one that the node knows."""
    with Ceph(directory / "cq-other", name="other") as other:
        shutil.copy(other.conf, ceph.conf_dir)
        shutil.copy(other.secret_dir / other.secret_uuid, ceph.secret_dir)
        yield other


def test_a_guest_has_disks_in_two_clusters(ceph: Ceph, other_cluster: Ceph, guests: Guests, directory: Path) -> None:
    volume_id = str(uuid.uuid4())
    name = f"volume-{volume_id}"
    other_cluster.rbd("create", f"{other_cluster.pool}/{name}", "--size", "64M")
    data = RbdVolume(
        name=f"{other_cluster.pool}/{name}",
        cluster_name=other_cluster.name,
        auth_username=other_cluster.user,
        secret_uuid=other_cluster.secret_uuid,
    )
    guest = a_guest(guests)
    connection = RbdConnection(data=data)
    attach(guests, guest.uuid, BlockDevice(source_type="volume", volume_id=volume_id, connection_info=connection))
    for disk, word in (("vda", "here"), ("vdb", "there")):
        write(guests, guest.uuid, disk, word, at=5)
    guests.finish(guests.client.detach_volume(guest.uuid, volume_id))
    assert content(other_cluster, name, 5, directory) == "there"
    assert "here" in run_inside(guests, guest.uuid, "dd if=/dev/vda bs=512 skip=5 count=1 iflag=direct")
    assert "Watchers: none" in other_cluster.rbd("status", f"{other_cluster.pool}/{name}")


def test_monitors_may_have_names(ceph: Ceph, guests: Guests) -> None:
    """A block server is confined to a room in which nobody can look them up."""
    addresses = ceph.conf.read_text()
    ceph.conf.write_text(addresses.replace(f"[v2:127.0.0.1:{ceph.port}/0]", f"localhost:{ceph.port}"))
    try:
        guest = a_guest(guests)
        write(guests, guest.uuid, "vda", "named", at=1)
    finally:
        ceph.conf.write_text(addresses)


def test_the_guest_goes_on_when_its_block_server_is_killed(
    ceph: Ceph, guests: Guests, node: Node, directory: Path
) -> None:
    guest = a_guest(guests)
    write(guests, guest.uuid, "vda", "before", at=1)
    killed = server_pid(node, guest.uuid)
    os.kill(killed, signal.SIGKILL)
    write(guests, guest.uuid, "vda", "after", at=2)
    until(lambda: guests.view(guest.uuid).vm_state is VmState.ACTIVE and guests.view(guest.uuid).task is None)
    assert server_pid(node, guest.uuid) != killed
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    assert [content(ceph, f"{guest.uuid}_disk0", at, directory) for at in (1, 2)] == ["before", "after"]


def test_the_guest_goes_on_when_agent_and_block_server_are_killed(guests: Guests, node: Node) -> None:
    guest = a_guest(guests)
    node.kill()
    os.kill(server_pid(node, guest.uuid), signal.SIGKILL)
    node.start()
    write(guests, guest.uuid, "vda", "after", at=2)
    assert "after" in run_inside(guests, guest.uuid, "dd if=/dev/vda bs=512 skip=2 count=1")


@pytest.mark.parametrize(
    ("daemons", "seconds"), [(["mon.a"], 0), (["osd.0"], 0), (["mon.a", "osd.0"], 60)], ids=["mon", "osd", "a minute"]
)
def test_no_write_is_lost_while_the_cluster_is_away(
    ceph: Ceph, guests: Guests, directory: Path, daemons: Sequence[str], seconds: float
) -> None:
    guest = a_guest(guests)
    writes = "for n in 1 2 3 4 5; do echo write$n | dd of=/dev/vda bs=512 seek=$n conv=sync,fsync; done; echo don''e"
    with away(ceph, *daemons):
        run_inside(guests, guest.uuid, f"{{ ({writes}) & }}")
        time.sleep(seconds)
        assert guests.view(guest.uuid).vm_state is VmState.ACTIVE
    guests.await_console(guest.uuid, "\ndone")
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    written = [content(ceph, f"{guest.uuid}_disk0", number, directory) for number in range(1, 6)]
    assert written == [f"write{number}" for number in range(1, 6)]


def test_what_a_cluster_cannot_remove_now_is_removed_later(ceph: Ceph, guests: Guests, node: Node) -> None:
    guest = a_guest(guests)
    with away(ceph, "osd.0"):
        guests.finish(guests.client.terminate_instance(guest.uuid))
        assert guests.client.list_instances() == []
    node.restart()
    until(lambda: images_of(ceph) == [], 150)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cluster_name": "nowhere"}, "cluster_name"),
        ({"secret_uuid": "00000000-0000-4000-8000-000000000000"}, "secret_uuid"),
        ({"auth_username": None}, "auth_username"),
        ({"auth_enabled": False}, "auth_enabled"),
    ],
)
def test_what_the_node_does_not_know_is_refused_at_once(
    ceph: Ceph, guests: Guests, changes: dict[str, str | bool | None], field: str
) -> None:
    guest = a_guest(guests)
    known = {"name": f"{ceph.pool}/x", "auth_username": ceph.user, "secret_uuid": ceph.secret_uuid}
    data = RbdVolume(**known | changes)
    device = BlockDevice(source_type="volume", volume_id=guest.uuid, connection_info=RbdConnection(data=data))
    with pytest.raises(InvalidMessage, match=rf"block_device\.connection_info\.data\.{field}"):
        guests.client.attach_volume(guest.uuid, device)


def test_the_key_is_where_nobody_can_see_it(ceph: Ceph, guests: Guests) -> None:
    a_guest(guests)
    assert ceph.key not in run("ps", "-e", "-ww", "-o", "args=")
    for path in Path("/proc").glob("[0-9]*/environ"):
        assert ceph.key.encode() not in _read(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
