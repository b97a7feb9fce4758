"""What the disks of an instance are called: each keeps its name when others come and go."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance


def name_devices(devices: Sequence[BlockDevice]) -> list[BlockDevice]:
    """The devices, in the same order; one without a name has got the first of ``disk0``, ``disk1``, … that is free."""
    taken = {device.device_name for device in devices}
    free = (name for name in map("disk{}".format, range(100)) if name not in taken)
    return [
        device if device.device_name else msgspec.structs.replace(device, device_name=next(free)) for device in devices
    ]


def with_named_devices(instance: Instance) -> Instance:
    """The same instance, all of its disks named."""
    if all(device.device_name for device in instance.block_devices):
        return instance
    return msgspec.structs.replace(instance, block_devices=name_devices(instance.block_devices))


def find_device(instance: Instance, reference: str) -> BlockDevice | None:
    """The disk of that name, or of the volume of that id."""
    return next((one for one in instance.block_devices if reference in (one.device_name, one.volume_id)), None)
