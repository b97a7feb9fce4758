"""What a request for a snapshot or a backup orders, in the words of the storage room."""

from __future__ import annotations

from collections.abc import Mapping

from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.contract import CopyOrder


def order_of(work: Work) -> CopyOrder:
    """The request's.

    :raises InvalidMessage: the instance has no such disk.
    """
    arguments = work.request.arguments
    if work.request.operation == "snapshot":
        root = [_root_device(work.instance)]
        return CopyOrder(
            kind="snapshot",
            copy_id=str(arguments["image_id"]),
            instance=work.instance,
            devices=root,
            target="rbd" if arguments.get("backend") == "rbd" else None,
        )
    return CopyOrder(
        kind="backup",
        copy_id=str(arguments["backup_id"]),
        instance=work.instance,
        devices=_devices(work.instance, arguments.get("disks")),
        parent=_text(arguments, "parent"),
        target=_text(arguments, "target"),
    )


def _text(arguments: Mapping[str, object], name: str) -> str | None:
    return None if (value := arguments.get(name)) is None else str(value)


def _root_device(instance: Instance) -> BlockDevice:
    ordered = [device for device in instance.block_devices if device.boot_index is not None]
    if not instance.block_devices:
        raise InvalidMessage("instance_uuid", instance.uuid, "the instance has no disk")
    return min(ordered, key=lambda device: device.boot_index or 0) if ordered else instance.block_devices[0]


def _devices(instance: Instance, names: object) -> list[BlockDevice]:
    if not isinstance(names, list):
        return list(instance.block_devices)
    found = [find_device(instance, name) for name in names]
    for name, device in zip(names, found, strict=True):
        if device is None:
            raise InvalidMessage("disks", name, "the instance has no such disk")
    return [device for device in found if device is not None]
