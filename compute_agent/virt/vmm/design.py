"""From an instance to its machine: which device sits in which slot of the PCI bus; and which instances get none."""

from __future__ import annotations

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.extra_specs import read_extra_specs
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance, Port
from compute_agent.virt.placement import check_boot_order, named, names_beside_disks, place

MACHINE_TYPE = "vmm-1"
SLOTS = range(2, 32)
"""Slot 0 has the host bridge, slot 1 the source of randomness."""

_USE_QEMU = "use qemu (the extra spec hw:hypervisor = qemu)"


def design_machine(instance: Instance) -> Machine:
    """Give each device the next slot.

    :raises InvalidMessage: names what this hypervisor cannot do, or the second of two disks to boot from.
    """
    check_instance(instance)
    check_boot_order(instance.block_devices)
    disks = [name for name, _ in named(instance.block_devices)]
    devices = disks + names_beside_disks(instance)
    if len(devices) > len(SLOTS):
        reason = f"vmm has room for {len(SLOTS)} disks and ports together: {_USE_QEMU}"
        raise InvalidMessage("instance.block_devices", len(devices), reason)
    return Machine(
        hypervisor="vmm",
        type=MACHINE_TYPE,
        accelerator="kvm",
        cpu="host",
        root_ports=0,
        slots=dict(zip(devices, SLOTS, strict=False)),
    )


def add_disk(machine: Machine, device: BlockDevice) -> Machine:
    """The machine with a place for one more disk, which has a name; the one that it has where it has one.

    :raises InvalidMessage: every slot is taken, or the disk is none that this hypervisor has.
    """
    _check_disk("block_device", device)
    ((name, _),) = named([device])
    return _place(machine, name, "block_device")


def add_nic(machine: Machine, port: Port) -> Machine:
    """The machine with a place for one more port, which has a name; the one that it has where it has one.

    :raises InvalidMessage: every slot is taken.
    """
    return _place(machine, str(port.device_name), "port")


def _place(machine: Machine, name: str, field: str) -> Machine:
    return place(machine, name, SLOTS, "PCI slots", field)


def check_instance(instance: Instance) -> None:
    """:raises InvalidMessage: this hypervisor cannot do something that is ordered; names it."""
    for index, device in enumerate(instance.block_devices):
        _check_disk(f"instance.block_devices[{index}]", device)
    specs = instance.flavor.extra_specs
    if read_extra_specs(specs).quota.limits_disks:
        # A guest's disks are read and written by its block server, which is in another control group.
        name = next(name for name in specs if name.startswith("quota:disk_"))
        field = f"instance.flavor.extra_specs[{name!r}]"
        raise InvalidMessage(field, specs[name], f"vmm cannot keep that; limit disks by their qos, or {_USE_QEMU}")


def _check_disk(field: str, device: BlockDevice) -> None:
    if device.disk_bus != "virtio":
        raise InvalidMessage(f"{field}.disk_bus", device.disk_bus, f"vmm has virtio disks only: {_USE_QEMU}")
