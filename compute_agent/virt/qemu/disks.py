"""The devices through which a guest sees its disks, as QEMU's JSON describes them.

A virtio-blk device has a PCIe root port of its own; SCSI disks share a controller, which has one. The addresses come
from the instance's machine and from the disks' names, so they are the same after each start and each plugging.
"""

from __future__ import annotations

from compute_agent.instance.devices import Disk
from compute_agent.instance.machine import Machine
from compute_agent.virt.qemu.block_nodes import keeps_flushes
from compute_agent.virt.qemu.devices import Properties, bus_of

SCSI_CONTROLLER = "scsi0"
"""Its id, and its name in the machine's slots."""


def iothread(index: int) -> Properties:
    """A thread that disks are served by."""
    return {"qom-type": "iothread", "id": f"iothread{index}"}


def scsi_controller(machine: Machine, iothreads: int) -> Properties:
    """The one that all SCSI disks are on."""
    device: Properties = {"driver": "virtio-scsi-pci", "id": SCSI_CONTROLLER}
    return device | _place(machine, SCSI_CONTROLLER, iothreads)


def disk_device(disk: Disk, top: str, machine: Machine, iothreads: int, *, bootable: bool) -> Properties:
    """A full or failing host stops the guest instead of failing its writes: `cont` tries them again.

    No disk is `bootable` beside a kernel that is booted directly: that one takes boot index 0 for itself.
    """
    device: Properties = {"id": disk.name, "drive": top, "werror": "stop", "rerror": "stop"}
    if disk.serial:
        device["serial"] = disk.serial
    if not keeps_flushes(disk.cache):
        device["write-cache"] = "off"
    if bootable and disk.boot_index is not None:
        device["bootindex"] = disk.boot_index
    return device | (_on_scsi(disk) if disk.bus == "scsi" else _on_pci(disk, machine, iothreads))


def _on_pci(disk: Disk, machine: Machine, iothreads: int) -> Properties:
    device: Properties = {"driver": "virtio-blk-pci"} | _place(machine, disk.name, iothreads)
    if disk.queues is not None:
        device["num-queues"] = disk.queues
    return device if disk.discard else device | {"discard": False}


def _on_scsi(disk: Disk) -> Properties:
    unit = int("".join(character for character in disk.name if character.isdigit()))
    return {"driver": "scsi-hd", "bus": f"{SCSI_CONTROLLER}.0", "scsi-id": 0, "lun": unit}


def _place(machine: Machine, device: str, iothreads: int) -> Properties:
    """Neighbours are served by different threads."""
    return bus_of(machine, device) | {"iothread": f"iothread{machine.slots[device] % iothreads}"}
