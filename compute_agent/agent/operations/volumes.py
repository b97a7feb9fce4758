"""attach_volume and detach_volume: a disk comes to an instance, or goes, whether or not its guest runs.

The record names the disk before anything is done with it, and forgets it after all is done: whatever dies
in between, the next agent knows what to finish or to take back.
"""

from __future__ import annotations

import msgspec

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.layer_records import refuse_layers, require_layer
from compute_agent.agent.request import Request
from compute_agent.agent.work import Work
from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device, with_named_devices
from compute_agent.instance.model import MOST_DISKS, Instance
from compute_agent.instance.preparation import prepare
from compute_agent.instance.state import VmState

prepare(BlockDevice)

_STATES = frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED})


def ordered_device(arguments: dict[str, object]) -> BlockDevice:
    """The disk that an attach_volume asks for."""
    return msgspec.convert(arguments["block_device"], BlockDevice)


def check_disk(request: Request, instance: Instance) -> None:
    """Whether a request about a disk and its instance fit together.

    :raises InvalidMessage: there is no such disk, or one already; names it.
    """
    arguments = request.arguments
    if request.operation == "attach_volume":
        _check_is_new(ordered_device(arguments), instance)
    for name in ("volume_id", "disk"):
        if name in arguments and find_device(instance, str(arguments[name])) is None:
            raise InvalidMessage(name, arguments[name], "the instance has no such disk")
    if request.operation == "detach_volume":
        _refuse_layers(find_device(instance, str(arguments["volume_id"])))
    if request.operation in ("volume_snapshot_delete", "volume_snapshot_revert"):
        require_layer(instance, arguments)


def _check_is_new(device: BlockDevice, instance: Instance) -> None:
    for name in ("volume_id", "device_name"):
        value = getattr(device, name)
        if value is not None and find_device(instance, value) is not None:
            raise InvalidMessage(f"block_device.{name}", value, "the instance has that disk already")
    if len(instance.block_devices) >= MOST_DISKS:
        raise InvalidMessage("block_device", MOST_DISKS, "the instance has as many disks as it can have")


def add_device(work: Work) -> None:
    """From here on the record has the disk, its name and its place in the machine."""
    ordered = ordered_device(work.request.arguments)
    if find_device(work.instance, str(ordered.volume_id)) is not None:
        return  # of an agent that died in this step
    instance = with_named_devices(_with_devices(work.instance, [*work.instance.block_devices, ordered]))
    machine = work.node.hypervisor.add_disk(work.machine, instance.block_devices[-1])
    work.change_instance(instance, machine)


def forget_device(work: Work) -> None:
    """The record does not have the disk any more."""
    device = _find(work)
    if device is not None:
        machine = work.node.hypervisor.remove_device(work.machine, str(device.device_name))
        rest = [other for other in work.instance.block_devices if other != device]
        work.change_instance(_with_devices(work.instance, rest), machine)


def make_disk(work: Work) -> None:
    """An empty disk is made; a volume exists already."""
    device = _device(work)
    if device.source_type == "blank":
        work.node.storage.create_disk(work.instance, device, work.report)


def delete_disk(work: Work) -> None:
    """What was made for the instance goes; a volume stays."""
    device = _find(work)
    if device is not None and device.source_type != "volume":
        work.node.storage.delete_disk(work.uuid, device)


def plug_disk(work: Work) -> None:
    """A guest that runs gets the disk."""
    guest, device = work.node.find_guest(work.uuid), _device(work)
    # One that has it is not connected for again: its server accepts nobody beside it, and few can wait for that.
    if guest is not None and not guest.has_device(str(device.device_name)):
        disk = work.node.storage.connect_disk(work.instance, device, vhost_user=work.takes_vhost_user)
        try:
            work.node.hypervisor.limit_disk(work.instance, disk)
            guest.attach_disk(disk, work.machine)
        finally:
            disk.close()


def unplug_disk(work: Work) -> None:
    """A guest that runs lets go of the disk, and the node too."""
    device = _find(work)
    if device is None:
        return
    _refuse_layers(device)
    guest = work.node.find_guest(work.uuid)
    if guest is not None:
        guest.detach_disk(str(device.device_name))
    work.node.storage.disconnect_disk(work.uuid, device)


def _refuse_layers(device: BlockDevice | None) -> None:
    if device is not None:
        refuse_layers(device, "volume_id", "detach_volume")


def _with_devices(instance: Instance, devices: list[BlockDevice]) -> Instance:
    return msgspec.structs.replace(instance, block_devices=devices)


def _device(work: Work) -> BlockDevice:
    device = _find(work)
    if device is None:
        raise InvalidMessage("volume_id", _volume_id(work), "the instance has no such volume")
    return device


def _find(work: Work) -> BlockDevice | None:
    return find_device(work.instance, _volume_id(work))


def _volume_id(work: Work) -> str:
    arguments = work.request.arguments
    return str(arguments["volume_id"] if "volume_id" in arguments else ordered_device(arguments).volume_id)


ATTACH_VOLUME = Operation(
    name="attach_volume",
    allowed=_STATES,
    steps=(
        Step("add_device", add_device, forget_device),
        Step("make_disk", make_disk, delete_disk),
        Step("plug_disk", plug_disk, unplug_disk),
    ),
    outcome="unchanged",
)

DETACH_VOLUME = Operation(
    name="detach_volume",
    allowed=_STATES,
    steps=(
        Step("unplug_disk", unplug_disk),
        Step("delete_disk", delete_disk),
        Step("forget_device", forget_device),
    ),
    outcome="unchanged",
)
