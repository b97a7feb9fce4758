"""Which devices a machine has, and the places that it has for them: what all hypervisors decide alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance


def named(block_devices: Sequence[BlockDevice]) -> Iterator[tuple[str, BlockDevice]]:
    """Disks that have no name yet get one."""
    for index, device in enumerate(block_devices):
        yield device.device_name or f"disk{index}", device


def names_beside_disks(instance: Instance) -> list[str]:
    """``config``, ``net0``, …"""
    config = ["config"] if instance.config_drive else []
    return config + [port.device_name or f"net{index}" for index, port in enumerate(instance.ports)]


def check_boot_order(block_devices: Sequence[BlockDevice]) -> None:
    """:raises InvalidMessage: two disks both want to be the one to boot from."""
    seen = set()
    for index, device in enumerate(block_devices):
        if device.boot_index in seen:
            raise InvalidMessage(f"instance.block_devices[{index}].boot_index", device.boot_index, "used twice")
        if device.boot_index is not None:
            seen.add(device.boot_index)


def place(machine: Machine, name: str, slots: range, what: str, field: str) -> Machine:
    """The machine with a device more, in the first of `slots` that is free; as it is where it has that device.

    :raises InvalidMessage: none is free: says `what` they are, and names the `field` that the device is ordered by.
    """
    if name in machine.slots:
        return machine
    slot = next((slot for slot in slots if slot not in machine.slots.values()), None)
    if slot is None:
        raise InvalidMessage(field, name, f"all {len(slots)} {what} of the instance's machine are taken")
    return msgspec.structs.replace(machine, slots={**machine.slots, name: slot})


def remove_device(machine: Machine, name: str) -> Machine:
    """The machine with the device's place free again; a disk's controller stays for those that come later."""
    slots = {device: slot for device, slot in machine.slots.items() if device != name}
    return msgspec.structs.replace(machine, slots=slots)
