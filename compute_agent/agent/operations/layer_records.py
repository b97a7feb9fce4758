"""The disk and the layer that a request names, and what the record says about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import Disk
from compute_agent.instance.model import Instance


def refuse_layers(device: BlockDevice, field: str, verb: str) -> None:
    """:raises InvalidMessage: the disk has layers, with which the verb does not work."""
    if device.layers:
        reason = f"the disk has snapshots, such as {device.layers[-1]}: delete them before {verb}"
        raise InvalidMessage(field, device.device_name, reason)


def require_layer(instance: Instance, arguments: Mapping[str, object]) -> None:
    """:raises InvalidMessage: the disk that a request is about has no such layer."""
    if arguments["snapshot_id"] not in _named_device(instance, arguments).layers:
        raise InvalidMessage("snapshot_id", arguments["snapshot_id"], "the disk has no such snapshot")


@contextmanager
def open_disk(work: Work) -> Iterator[Disk]:
    """As the record has it, for whoever has it open already: files, which only those have that can have layers."""
    disk = work.node.storage.connect_disk(work.instance, device_of(work), vhost_user=False)
    try:
        yield disk
    finally:
        disk.close()


def device_of(work: Work) -> BlockDevice:
    """:raises InvalidMessage: the instance has no such disk."""
    return _named_device(work.instance, work.request.arguments)


def _named_device(instance: Instance, arguments: Mapping[str, object]) -> BlockDevice:
    reference = str(arguments["disk"])
    device = find_device(instance, reference)
    if device is None:
        raise InvalidMessage("disk", reference, "the instance has no such disk")
    return device


def layer_of(work: Work) -> str:
    """The snapshot's id."""
    return str(work.request.arguments["snapshot_id"])


def forget_layer(work: Work) -> None:
    """The disk's content is made of the others from now on."""
    replace_layers(work, [layer for layer in device_of(work).layers if layer != layer_of(work)])


def replace_layers(work: Work, layers: Sequence[str]) -> None:
    """The disk's content is made of these from now on, oldest first."""
    old = device_of(work)
    new = msgspec.structs.replace(old, layers=tuple(layers))
    devices = [new if device == old else device for device in work.instance.block_devices]
    work.change_instance(msgspec.structs.replace(work.instance, block_devices=devices), work.record.machine)
