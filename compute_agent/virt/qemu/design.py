"""From an instance to its machine: which device sits on which PCIe root port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import ROOT_PORTS, Machine
from compute_agent.instance.model import Instance

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


def _device_names(instance: Instance) -> list[str]:
    disks = [f"disk{index}" for index in range(len(instance.block_devices))]
    config = ["config"] if instance.config_drive else []
    nics = [f"net{index}" for index in range(len(instance.ports))]
    return disks + config + nics


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
