"""Disks that a block server has open for a guest are copied at one moment, while a virtio driver writes to them."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compute_agent.block.copies import DiskCopies, DiskCopy
from compute_agent.block.open_disks import OpenDisks
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import with_named_devices
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.node_disks import NodeDisks
from compute_agent.storage.settings import StorageSettings
from tests.functional.serving import (
    Plug,
    agent,
    ceph,
    content,
    disks,
    ended,
    kinds,
    made,
    plug,
    served,
    settings,
    write,
)
from tests.unit.storage.making import ignore
from tests.unit.virt.vmm.parts import parts
from tests.unit.virt.vmm.virtio.driver import DriverQueue
from tests.unit.virt.vmm.virtio.storage import MIB, image_has

__all__ = ["agent", "ceph", "disks", "ended", "kinds", "parts", "plug", "settings"]

SECONDS = 30


@pytest.fixture
def two(kinds: dict[str, BlockDevice], disks: NodeDisks, plug: Plug) -> tuple[Instance, list[DriverQueue]]:
    """Disks of a guest, in files: an overlay, and a raw one."""
    return running(disks, plug, kinds["overlay"], kinds["raw"])


def running(disks: NodeDisks, plug: Plug, *devices: BlockDevice) -> tuple[Instance, list[DriverQueue]]:
    """An instance without a config drive, and what its guest has of its disks."""
    instance = with_named_devices(msgspec.structs.replace(made(disks, *devices), config_drive=False))
    queues = []
    for number, disk in enumerate(served(disks, instance)):
        queues += plug(disk).set_up(address=0x100000 * (number + 1))
    return instance, queues


def opened(disks: NodeDisks, instance: Instance) -> OpenDisks:
    found = disks.find_served_disks(instance)
    assert found is not None
    return found


def an_order(instance: Instance, **changes: Any) -> CopyOrder:
    order = CopyOrder(kind="backup", copy_id=str(uuid.uuid4()), instance=instance, devices=instance.block_devices)
    return replace(order, **changes)


def begin(disks: NodeDisks, order: CopyOrder) -> None:
    """As the agent does."""
    disks.copies.prepare(order)
    copies = []
    for device in order.devices:
        name = str(device.device_name)
        target = disks.copies.open(order, name)
        copies.append(DiskCopy(disk=name, target=target, since=order.parent, mark=order.copy_id))
    try:
        assert opened(disks, order.instance).copies.begin(order.copy_id, copies) is False, "nobody is asked to freeze"
    finally:
        for copy in copies:
            if isinstance(copy.target, NbdSource):
                copy.target.close()


def finish(disks: NodeDisks, order: CopyOrder) -> None:
    copies = opened(disks, order.instance).copies
    await_end(copies, order)
    copies.end()
    disks.copies.keep(order, ignore)
    for device in order.devices:
        copies.forget_marks(str(device.device_name), {order.copy_id})


def await_end(copies: DiskCopies, order: CopyOrder) -> None:
    due = time.monotonic() + SECONDS
    while copies.progress(order.copy_id, 1) < 100:
        assert time.monotonic() < due


def copied(settings: StorageSettings, order: CopyOrder, disk: str) -> Path:
    return settings.backup_dir / order.copy_id / f"{disk}.qcow2"


def test_all_disks_are_copied_at_one_moment_while_they_are_written_to(
    two: tuple[Instance, list[DriverQueue]], disks: NodeDisks, settings: StorageSettings
) -> None:
    instance, queues = two
    for queue in queues:
        write(queue, 2 * MIB, b"\1")
    full = an_order(instance)
    begin(disks, full)
    for queue in queues:
        write(queue, 2 * MIB, b"\2")
        write(queue, 3 * MIB, b"\3")
    finish(disks, full)
    later = an_order(instance, parent=full.copy_id)
    begin(disks, later)
    for queue in queues:
        write(queue, 2 * MIB, b"\4")
        write(queue, MIB, b"\5")
    finish(disks, later)
    for disk in ("disk0", "disk1"):
        assert [image_has(copied(settings, full, disk), *what) for what in ((7, MIB, 512), (1, 2 * MIB, 512))]
        assert image_has(copied(settings, full, disk), 0, 3 * MIB, 512)
        for byte, at in ((7, MIB), (2, 2 * MIB), (3, 3 * MIB)):
            assert image_has(copied(settings, later, disk), byte, at, 512)
        assert copied(settings, later, disk).stat().st_blocks < 4 * MIB // 512, "what had changed, and no more"
    assert [content(queue, 2 * MIB)[:1] for queue in queues] == [b"\4", b"\4"]
