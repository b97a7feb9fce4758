"""Attaching a disk to a guest that runs, and detaching it, against the same over QMP by hand."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from tests.bench.comparison import Comparison, compared, seconds
from tests.bench.disk_guest import DiskGuestByHand
from tests.bench.ends import Ends
from tests.functional.guests import Guests, until
from tests.functional.shell import run_inside

ROUNDS = 10
_COMMITS = 6
"""What an operation of three steps has to make durable: that it was accepted, what each step is about to do, what the
instance is from now on, the end."""
_BY_HAND = f"QMP and {_COMMITS} durable notes by hand"


def run(guests: Guests, ends: Ends, instance_uuid: str, hand: DiskGuestByHand, directory: Path) -> Iterator[Comparison]:
    """Turn by turn; the guests' own answer takes most of a detach."""
    attached, detached = [], []
    with closing(_Notes(directory / "notes")) as notes:
        for _ in range(ROUNDS):
            device = _volume(guests.node.volumes)
            ours = seconds(lambda device=device: ends.await_end(guests.client.attach_volume(instance_uuid, device)))
            attached.append((ours, seconds(lambda: _attach(hand, notes, _file(directory)))))
            until(lambda: "vdc" in run_inside(guests, instance_uuid, "ls /sys/block"))
            until(lambda: "vdc" in hand.shell("ls /sys/block"))
            gone = str(device.volume_id)
            ours = seconds(lambda gone=gone: ends.await_end(guests.client.detach_volume(instance_uuid, gone)))
            detached.append((ours, seconds(lambda: _detach(hand, notes))))
    yield compared("attach a file", attached, 1.5, _BY_HAND)
    yield compared("detach a file", detached, 1.3, _BY_HAND)


class _Notes:
    """What a program that must not forget writes at the least."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def take(self) -> None:
        """Return when it is on the disk."""
        os.write(self._fd, bytes(4096))
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _file(directory: Path) -> Path:
    path = directory / f"{uuid.uuid4()}.raw"
    with path.open("wb") as file:
        file.truncate(64 * 1024**2)
    return path


def _volume(directory: Path) -> BlockDevice:
    volume = FileVolume(path=str(_file(directory)), format="raw", access_mode="rw")
    connection = FileConnection(data=volume)
    return BlockDevice(source_type="volume", volume_id=str(uuid.uuid4()), connection_info=connection)


def _attach(hand: DiskGuestByHand, notes: _Notes, path: Path) -> None:
    _note(notes)
    file = {"driver": "file", "filename": str(path)}
    hand.ask("blockdev-add", {"driver": "raw", "node-name": "more", "file": file})
    hand.ask("device_add", {"driver": "virtio-blk-pci", "id": "more", "drive": "more", "bus": "rp2"})


def _detach(hand: DiskGuestByHand, notes: _Notes) -> None:
    _note(notes)
    hand.ask("device_del", {"id": "more"})
    hand.await_deleted("more")
    hand.ask("blockdev-del", {"node-name": "more"})


def _note(notes: _Notes) -> None:
    for _ in range(_COMMITS):
        notes.take()
