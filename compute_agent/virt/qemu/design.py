"""From an instance to its machine: which device sits on which PCIe root port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import ROOT_PORTS, Machine
from compute_agent.instance.model import Instance, Port
from compute_agent.virt.placement import check_boot_order, named, names_beside_disks, place
from compute_agent.virt.qemu.disks import SCSI_CONTROLLER
from compute_agent.virt.settings import HOST_CPU

_SPARE_PORTS = 8
"""Free ones that a new machine has at least, for what is plugged later."""
_PORTS_A_SLOT = 8
"""Functions of one multifunction device."""


def design_machine(
    instance: Instance, machine_type: str, accelerator: Literal["kvm", "tcg"], cpu_model: str = HOST_CPU
) -> Machine:
    """Give each device the next root port; a machine gets no more ports than it may need, each slows its start.

    `cpu_model` is for KVM; what it promises is there, or the guest does not start.

    :raises InvalidMessage: more devices than ports, or two disks that both want to be the one to boot from.
    """
    devices = _device_names(instance)
    if len(devices) > ROOT_PORTS:
        raise InvalidMessage("instance.block_devices", len(devices), f"at most {ROOT_PORTS} disks and ports together")
    check_boot_order(instance.block_devices)
    return Machine(
        hypervisor="qemu",
        type=machine_type,
        accelerator=accelerator,
        cpu=_cpu(accelerator, cpu_model),
        root_ports=_root_ports(len(devices)),
        slots={name: slot for slot, name in enumerate(devices)},
    )


def _cpu(accelerator: Literal["kvm", "tcg"], cpu_model: str) -> str:
    if accelerator == "tcg":
        return "max"
    return cpu_model if cpu_model == HOST_CPU else f"{cpu_model},enforce"


def add_disk(machine: Machine, device: BlockDevice) -> Machine:
    """The machine with a place for one more disk, which has a name; the one that it has where it has one.

    :raises InvalidMessage: every root port is taken.
    """
    (name,) = _disk_names([device])
    return _place(machine, name, "block_device")


def add_nic(machine: Machine, port: Port) -> Machine:
    """The same for a port, which has a name; raises alike."""
    return _place(machine, str(port.device_name), "port")


def _place(machine: Machine, name: str, field: str) -> Machine:
    return place(machine, name, range(machine.root_ports), "PCIe root ports", field)


def _device_names(instance: Instance) -> list[str]:
    return _disk_names(instance.block_devices) + names_beside_disks(instance)


def _disk_names(block_devices: Sequence[BlockDevice]) -> list[str]:
    """Disks on a bus of their own have no port; their controller has."""
    names = [name for name, device in named(block_devices) if device.disk_bus != "scsi"]
    return names + [SCSI_CONTROLLER] * any(device.disk_bus == "scsi" for device in block_devices)


def _root_ports(devices: int) -> int:
    slots = -(-(devices + _SPARE_PORTS) // _PORTS_A_SLOT)
    return min(slots * _PORTS_A_SLOT, ROOT_PORTS)
