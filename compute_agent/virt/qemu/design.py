"""From an instance to its machine: which device sits on which PCIe root port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import ROOT_PORTS, Machine
from compute_agent.instance.model import Instance
from compute_agent.virt.qemu.disks import SCSI_CONTROLLER

_SPARE_PORTS = 8
"""Free ones that a new machine has at least, for what is plugged later."""
_PORTS_A_SLOT = 8
"""Functions of one multifunction device."""


def design_machine(instance: Instance, machine_type: str, accelerator: Literal["kvm", "tcg"]) -> Machine:
    """Give each device the next root port; a machine gets no more ports than it may need, each slows its start.

    :raises InvalidMessage: more devices than ports, or two disks that both want to be the one to boot from.
    """
    devices = _device_names(instance)
    if len(devices) > ROOT_PORTS:
        raise InvalidMessage("instance.block_devices", len(devices), f"at most {ROOT_PORTS} disks and ports together")
    _check_boot_order(instance.block_devices)
    return Machine(
        hypervisor="qemu",
        type=machine_type,
        accelerator=accelerator,
        cpu="host" if accelerator == "kvm" else "max",
        root_ports=_root_ports(len(devices)),
        slots={name: slot for slot, name in enumerate(devices)},
    )


def add_disk(machine: Machine, device: BlockDevice) -> Machine:
    """The machine with a place for one more disk, which has a name; the one that it has where it has one.

    :raises InvalidMessage: every root port is taken.
    """
    (name,) = _disk_names([device])
    if name in machine.slots:
        return machine
    slot = next((slot for slot in range(machine.root_ports) if slot not in machine.slots.values()), None)
    if slot is None:
        reason = f"all {machine.root_ports} PCIe root ports of the instance's machine are taken"
        raise InvalidMessage("block_device", name, reason)
    return msgspec.structs.replace(machine, slots={**machine.slots, name: slot})


def remove_disk(machine: Machine, name: str) -> Machine:
    """The machine with the disk's place free again; a controller stays for those that come later."""
    return msgspec.structs.replace(
        machine, slots={device: slot for device, slot in machine.slots.items() if device != name}
    )


def _device_names(instance: Instance) -> list[str]:
    disks = _disk_names(instance.block_devices)
    config = ["config"] if instance.config_drive else []
    nics = [f"net{index}" for index in range(len(instance.ports))]
    return disks + config + nics


def _disk_names(block_devices: Sequence[BlockDevice]) -> list[str]:
    """Disks on a bus of their own have no port; their controller has."""
    names = [
        device.device_name or f"disk{index}" for index, device in enumerate(block_devices) if device.disk_bus != "scsi"
    ]
    return names + [SCSI_CONTROLLER] * any(device.disk_bus == "scsi" for device in block_devices)


def _root_ports(devices: int) -> int:
    slots = -(-(devices + _SPARE_PORTS) // _PORTS_A_SLOT)
    return min(slots * _PORTS_A_SLOT, ROOT_PORTS)


def _check_boot_order(block_devices: Sequence[BlockDevice]) -> None:
    seen = set()
    for index, device in enumerate(block_devices):
        if device.boot_index in seen:
            raise InvalidMessage(f"instance.block_devices[{index}].boot_index", device.boot_index, "used twice")
        if device.boot_index is not None:
            seen.add(device.boot_index)
