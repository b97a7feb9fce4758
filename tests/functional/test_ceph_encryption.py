"""An instance's own encrypted disks in Ceph: legible in their guest, noise in the cluster, on a real one."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.instance.block_device import BlockDevice, Encryption, Image, RbdConnection, RbdVolume
from compute_agent.instance.model import Instance
from compute_agent.storage.server.launch import find_servers
from sandbox import audit, images
from sandbox.broker import Broker
from sandbox.ceph import Ceph
from sandbox.commands import run
from sandbox.node import Node
from sandbox.switch import Switch
from tests.functional.containers import make_encrypted
from tests.functional.guests import Guests, an_order, until
from tests.functional.shell import attach, await_inside, run_inside

MIB = 1024**2
SECTORS_OF_A_GIB = 2 * MIB
PASSPHRASE = f"secret-{uuid.uuid4()}"


@pytest.fixture(scope="module")
def node(directory: Path, broker: Broker, switch: Switch, ceph: Ceph) -> Iterator[Node]:
    """An agent that makes disks in the cluster, and tells nobody how they are opened."""
    with Node(directory / "en", broker.transport_url, switch.connection, host="secret-node", ceph=ceph) as node:
        yield node
        Guests(node).terminate_all()
        assert audit.leftovers(node, switch) == []
        kept = node.log.read_bytes() + (node.directory / "state/journal.sqlite").read_bytes()
        assert PASSPHRASE.encode() not in kept


@pytest.fixture
def encryption(node: Node) -> Encryption:
    return Encryption(secret_uuid=node.keep_secret(PASSPHRASE))


def an_image(node: Node) -> Image:
    """16 MiB: legible at its beginning, zeros, and legible at its end."""
    path = node.image_source / "legible.raw"
    path.write_bytes(b"legible head".ljust(16 * MIB - 512, b"\0") + b"legible tail".ljust(512, b"\0"))
    return Image(url=f"file://{path}", checksum=images.checksum(path), disk_format="raw")


def with_disk(guests: Guests, disk: BlockDevice) -> Instance:
    return guests.boot(an_order(config_drive=False, block_devices=[disk]))


def sector(guests: Guests, guest: Instance, number: int) -> str:
    said = run_inside(guests, guest.uuid, f"dd if=/dev/vda bs=512 skip={number} count=1 2>/dev/null | tr -d '\\000'")
    return said.strip()


def write(guests: Guests, guest: Instance, text: str, number: int) -> None:
    run_inside(guests, guest.uuid, f"echo {text} | dd of=/dev/vda bs=512 seek={number} conv=sync,fsync")


def in_the_cluster(ceph: Ceph, guest: Instance, directory: Path) -> bytes:
    """What the image holds, to somebody without the passphrase: 32 MiB of it."""
    path = directory / f"{uuid.uuid4()}.raw"
    ceph.rbd("export", "--no-progress", f"{ceph.pool}/{guest.uuid}_disk0", str(path))
    try:
        with path.open("rb") as file:
            return file.read(32 * MIB)
    finally:
        path.unlink()


def test_a_blank_disk_through_its_whole_life(
    ceph: Ceph, node: Node, guests: Guests, encryption: Encryption, directory: Path
) -> None:
    disk = BlockDevice(source_type="blank", backend="rbd", size_gb=1, encryption=encryption)
    guest = with_disk(guests, disk)
    assert run_inside(guests, guest.uuid, "cat /sys/block/vda/size") == str(SECTORS_OF_A_GIB)
    write(guests, guest, "legible", 7)
    assert PASSPHRASE not in run("ps", "-e", "-ww", "-o", "args=")
    guests.finish(guests.client.reboot_instance(guest.uuid, reboot_type="HARD"))
    guests.await_console(guest.uuid, "GUEST READY", times=2)
    assert sector(guests, guest, 7) == "legible"

    node.kill()
    os.kill(find_servers(node.directory / "run/servers")[guest.uuid].pid, signal.SIGKILL)
    node.start()
    assert sector(guests, guest, 7) == "legible", "the next agent opens the container again"

    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 2))
    await_inside(guests, guest.uuid, f"[ $(cat /sys/block/vda/size) = {2 * SECTORS_OF_A_GIB} ]")
    write(guests, guest, "legible", 2 * SECTORS_OF_A_GIB - 1)
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    assert b"legible" not in in_the_cluster(ceph, guest, directory)
    guests.finish(guests.client.extend_volume(guest.uuid, "disk0", 3))
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=3)
    assert run_inside(guests, guest.uuid, "cat /sys/block/vda/size") == str(3 * SECTORS_OF_A_GIB)
    assert [sector(guests, guest, at) for at in (7, 2 * SECTORS_OF_A_GIB - 1)] == ["legible", "legible"]


@pytest.mark.parametrize("where", ["file", "ceph"])
def test_an_image_is_copied_into_an_encrypted_disk(
    ceph: Ceph, guests: Guests, encryption: Encryption, directory: Path, where: str
) -> None:
    image = an_image(guests.node)
    if where == "ceph":
        path = image.url.removeprefix("file://")
        ceph.rbd("import", "--no-progress", path, f"{ceph.pool}/image-legible")
        ceph.rbd("snap", "create", "--no-progress", f"{ceph.pool}/image-legible@base")
        url = f"rbd://{ceph.fsid}/{ceph.pool}/image-legible/base"
        image = Image(url=url, checksum=image.checksum, disk_format="raw")
    disk = BlockDevice(source_type="image", backend="rbd", image=image, size_gb=1, encryption=encryption)
    guest = with_disk(guests, disk)
    assert run_inside(guests, guest.uuid, "cat /sys/block/vda/size") == str(SECTORS_OF_A_GIB)
    assert [sector(guests, guest, at) for at in (0, 1, 32767)] == ["legible head", "", "legible tail"]
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))
    assert b"legible" not in in_the_cluster(ceph, guest, directory)
    assert "parent: " not in ceph.rbd("info", f"{ceph.pool}/{guest.uuid}_disk0")


def test_an_agent_that_dies_while_a_container_is_made_makes_it_anew(
    ceph: Ceph, node: Node, guests: Guests, encryption: Encryption
) -> None:
    image = an_image(node)
    disk = BlockDevice(source_type="image", backend="rbd", image=image, size_gb=1, encryption=encryption)
    order = an_order(config_drive=False, block_devices=[disk])
    accepted = guests.client.build_and_run_instance(order)
    until(lambda: f"{order.uuid}_disk0" in ceph.rbd("ls", ceph.pool))
    node.kill()
    node.start()
    guests.client.wait(accepted.request_id, 60)
    guests.finish(guests.client.terminate_instance(order.uuid))
    until(lambda: f"{order.uuid}_disk0" not in ceph.rbd("ls", ceph.pool), 90)
    guest = with_disk(guests, disk)
    assert sector(guests, guest, 32767) == "legible tail"


def a_volume(ceph: Ceph, encryption: Encryption, path: Path) -> BlockDevice:
    """As Cinder makes an encrypted one: 64 MiB of content, and a header before it."""
    (path.parent / "key").write_text(PASSPHRASE)
    make_encrypted(path, "luks", path.parent / "key", size="64M")
    name = f"{ceph.pool}/volume-{uuid.uuid4()}"
    ceph.rbd("import", "--no-progress", str(path), name)
    data = RbdVolume(name=name, auth_username=ceph.user, secret_uuid=ceph.secret_uuid)
    connection = RbdConnection(data=data)
    volume_id = name.rpartition("volume-")[2]
    return BlockDevice(source_type="volume", volume_id=volume_id, connection_info=connection, encryption=encryption)


def test_a_volume_that_its_owner_has_grown_shows_its_content_to_the_end(
    ceph: Ceph, guests: Guests, encryption: Encryption, tmp_path: Path
) -> None:
    guest = guests.boot(an_order(config_drive=False, block_devices=[]))
    volume = a_volume(ceph, encryption, tmp_path / "volume")
    header = (tmp_path / "volume").stat().st_size - 64 * MIB
    attach(guests, guest.uuid, volume)
    assert run_inside(guests, guest.uuid, "cat /sys/block/vda/size") == str(64 * MIB // 512)
    ceph.rbd("resize", "--no-progress", "--size", "1G", f"{ceph.pool}/volume-{volume.volume_id}")
    guests.finish(guests.client.extend_volume(guest.uuid, str(volume.volume_id), 1))
    sectors = SECTORS_OF_A_GIB - header // 512
    await_inside(guests, guest.uuid, f"[ $(cat /sys/block/vda/size) = {sectors} ]")
    write(guests, guest, "legible", sectors - 1)
    assert sector(guests, guest, sectors - 1) == "legible"
    guests.finish(guests.client.detach_volume(guest.uuid, str(volume.volume_id)))
