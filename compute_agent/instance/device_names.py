"""What the disks and NICs of an instance are called: each keeps its name when others come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Instance, Port

D = TypeVar("D", BlockDevice, Port)


def name_devices(devices: Sequence[D], kind: Literal["disk", "net"]) -> list[D]:
    """The devices, in the same order; one without a name has got the first of ``disk0``, ``disk1``, … that is free."""
    taken = {device.device_name for device in devices}
    free = (name for name in (f"{kind}{number}" for number in range(100)) if name not in taken)
    return [
        device if device.device_name else msgspec.structs.replace(device, device_name=next(free)) for device in devices
    ]


def with_named_devices(instance: Instance) -> Instance:
    """The same instance, all of its disks and NICs named."""
    disks, ports = instance.block_devices, instance.ports
    if all(disk.device_name for disk in disks) and all(port.device_name for port in ports):
        return instance
    return msgspec.structs.replace(
        instance, block_devices=name_devices(disks, "disk"), ports=name_devices(ports, "net")
    )


def find_device(instance: Instance, reference: str) -> BlockDevice | None:
    """The disk of that name, or of the volume of that id."""
    return next((one for one in instance.block_devices if reference in (one.device_name, one.volume_id)), None)


def find_port(instance: Instance, port_id: str) -> Port | None:
    """The port of that id."""
    return next((one for one in instance.ports if one.id == port_id), None)
