"""Snapshots that stay beside a disk: from one moment on the guest writes to an overlay, which is committed back."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from compute_agent.instance.model import Instance
from sandbox.node import Node
from tests.functional.contents import word_at
from tests.functional.guests import Guests, an_order
from tests.functional.shell import run_inside

MIB = 1024**2


@pytest.fixture
def guest(guests: Guests) -> Instance:
    """Running, with an empty disk of 1 GiB."""
    return guests.boot(an_order(config_drive=False))


def disk_of(node: Node, guest: Instance) -> Path:
    return node.directory / "state/disks" / guest.uuid / "disk0.qcow2"


def overlay_of(disk: Path, snapshot: str) -> Path:
    return disk.with_name(f"{disk.name}.{snapshot}")


def take(guests: Guests, guest: Instance, disk: str = "disk0") -> str:
    snapshot = str(uuid.uuid4())
    guests.finish(guests.client.volume_snapshot_create(guest.uuid, disk, snapshot))
    return snapshot


def delete(guests: Guests, guest: Instance, snapshot: str, disk: str = "disk0") -> None:
    guests.finish(guests.client.volume_snapshot_delete(guest.uuid, disk, snapshot))


def layers(guests: Guests, guest: Instance, disk: str = "disk0") -> list[str]:
    devices = guests.view(guest.uuid).instance.block_devices
    return next(list(device.layers) for device in devices if disk in (device.device_name, device.volume_id))


def write(guests: Guests, guest: Instance, word: str, at: int, disk: str = "vda") -> None:
    """Durably."""
    run_inside(guests, guest.uuid, f"echo {word} | dd of=/dev/{disk} bs=512 seek={at // 512} conv=sync,fsync,notrunc")


def word(guests: Guests, guest: Instance, at: int, disk: str = "vda") -> str:
    """What the guest itself reads, from the disk and not from its memory."""
    read = f"dd if=/dev/{disk} bs=512 skip={at // 512} count=1 iflag=direct 2>/dev/null | head -n 1"
    return run_inside(guests, guest.uuid, read).strip("\0")


def stop(guests: Guests, guest: Instance) -> None:
    guests.finish(guests.client.stop_instance(guest.uuid, timeout=0))


def start(guests: Guests, guest: Instance) -> None:
    booted = guests.console(guest.uuid).count("GUEST READY")
    guests.finish(guests.client.start_instance(guest.uuid))
    guests.await_console(guest.uuid, "GUEST READY", times=booted + 1)


def test_what_was_there_stays_and_is_put_together_again(node: Node, guests: Guests, guest: Instance) -> None:
    disk = disk_of(node, guest)
    write(guests, guest, "first", 0)
    one = take(guests, guest)
    write(guests, guest, "second", 0)
    write(guests, guest, "more", MIB)
    two = take(guests, guest)
    write(guests, guest, "third", 0)
    assert layers(guests, guest) == [one, two]
    assert word_at(disk, 0) == "first", "somebody may copy it meanwhile"
    assert word_at(overlay_of(disk, one), 0) == "second"
    delete(guests, guest, one)
    assert layers(guests, guest) == [two]
    assert (word_at(disk, 0), word_at(disk, MIB)) == ("second", "more")
    assert (word(guests, guest, 0), word(guests, guest, MIB)) == ("third", "more")
    delete(guests, guest, two)
    write(guests, guest, "last", 2 * MIB)
    assert [word(guests, guest, at) for at in (0, MIB, 2 * MIB)] == ["third", "more", "last"]
    stop(guests, guest)
    assert [word_at(disk, at) for at in (0, MIB, 2 * MIB)] == ["third", "more", "last"]
    assert [entry.name for entry in disk.parent.iterdir()] == [disk.name]
