"""extend_volume and set_disk_qos: a disk changes while its guest runs."""

from __future__ import annotations

import msgspec

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.device_names import find_device
from compute_agent.instance.preparation import prepare
from compute_agent.instance.state import VmState
from compute_agent.virt.contract import Guest

prepare(DiskQos)

_STATES = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED})


def grow_disk(work: Work) -> None:
    """The disk has its new size on this node. It cannot be taken back: to cut a disk off could lose data."""
    device = _device(work)
    guest = work.node.find_guest(work.uuid)
    if guest is not None and work.takes_vhost_user:
        work.node.storage.grow_served_disk(work.instance, device, _size(work))
        guest.resize_disk(str(device.device_name), _size(work))
    else:
        _grow_disk(work, device, guest)


def _grow_disk(work: Work, device: BlockDevice, guest: Guest | None) -> None:
    fresh = work.node.storage.grow_disk(work.instance, device, _size(work), running=guest is not None)
    if guest is not None and fresh is not None:
        try:
            guest.reconnect_disk(fresh)
        finally:
            fresh.close()
    if guest is not None:
        # A server gives a container of a volume's owner, of which the guest sees only the content.
        guest.resize_disk(str(device.device_name), _size(work) if fresh is None else None)


def note_size(work: Work) -> None:
    """The record says so too."""
    device = _device(work)
    if device.size_gb is not None:
        _replace(work, device, msgspec.structs.replace(device, size_gb=work.request.arguments["size_gb"]))


def limit_disk(work: Work) -> None:
    """A guest that runs is limited from now on."""
    _limit(work, _device(work), _qos(work))


def note_limits(work: Work) -> None:
    """The record says so too."""
    device = _device(work)
    _replace(work, device, msgspec.structs.replace(device, qos=_qos(work)))


def restore_limits(work: Work) -> None:
    """What the record says holds again."""
    device = _device(work)
    _limit(work, device, device.qos)


def _limit(work: Work, device: BlockDevice, qos: DiskQos | None) -> None:
    """Whoever has the disk open holds the guest to it."""
    disks = work.find_open_disks()
    if disks is not None:
        disks.set_disk_qos(str(device.device_name), qos)


def _size(work: Work) -> int:
    return int(str(work.request.arguments["size_gb"])) * 1024**3


def _qos(work: Work) -> DiskQos | None:
    return msgspec.convert(work.request.arguments["qos"], DiskQos | None)


def _device(work: Work) -> BlockDevice:
    reference = str(work.request.arguments["disk"])
    device = find_device(work.instance, reference)
    if device is None:
        raise InvalidMessage("disk", reference, "the instance has no such disk")
    return device


def _replace(work: Work, old: BlockDevice, new: BlockDevice) -> None:
    devices = [new if device == old else device for device in work.instance.block_devices]
    work.change_instance(msgspec.structs.replace(work.instance, block_devices=devices), work.record.machine)


EXTEND_VOLUME = Operation(
    name="extend_volume",
    allowed=_STATES,
    steps=(Step("grow_disk", grow_disk), Step("note_size", note_size)),
    outcome="unchanged",
)

SET_DISK_QOS = Operation(
    name="set_disk_qos",
    allowed=_STATES,
    steps=(Step("limit_disk", limit_disk, restore_limits), Step("note_limits", note_limits)),
    outcome="unchanged",
)
