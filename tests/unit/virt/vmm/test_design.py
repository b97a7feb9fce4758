"""Which slots a machine's devices get, and what is refused before anything starts."""

from __future__ import annotations

import pytest

from compute_agent.errors import InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.wire import DiskBus
from compute_agent.virt.placement import remove_device
from compute_agent.virt.vmm.design import add_disk, design_machine


def a_disk(bus: DiskBus = "virtio", name: str | None = None) -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1, disk_bus=bus, device_name=name)


def instance(*disks: BlockDevice, ports: int = 1, **specs: str) -> Instance:
    return Instance(
        uuid="6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a1",
        name="one",
        flavor=Flavor(vcpus=1, memory_mb=64, extra_specs=specs),
        block_devices=list(disks),
        ports=[Port(id="7e0a2a2c-6a8f-4df6-8a5b-0a9bdf3a1c11", mac_address="fa:16:3e:00:00:01")] * ports,
    )


def test_devices_have_the_slots_from_2_on() -> None:
    machine = design_machine(instance(a_disk(), a_disk()))
    assert machine.slots == {"disk0": 2, "disk1": 3, "config": 4, "net0": 5}
    assert (machine.hypervisor, machine.type, machine.takes_vhost_user) == ("vmm", "vmm-1", True)


def test_as_many_as_there_are_slots() -> None:
    fits = instance(*[a_disk()] * 24, ports=5)
    assert max(design_machine(fits).slots.values()) == 31
    with pytest.raises(InvalidMessage, match=r"room for 30 disks and ports.*use qemu") as refused:
        design_machine(instance(*[a_disk()] * 24, ports=6))
    assert (refused.value.field, refused.value.value) == ("instance.block_devices", 31)


def test_disk_that_comes_gets_the_first_free_slot_and_others_stay() -> None:
    machine = design_machine(instance(a_disk(), a_disk()))
    machine = add_disk(remove_device(machine, "disk0"), a_disk(name="disk7"))
    assert machine.slots == {"disk7": 2, "disk1": 3, "config": 4, "net0": 5}
    assert add_disk(machine, a_disk(name="disk7")) == machine


def test_machine_without_a_free_slot_takes_no_disk() -> None:
    machine = design_machine(instance(*[a_disk()] * 24, ports=5))
    with pytest.raises(InvalidMessage, match="all 30 PCI slots"):
        add_disk(machine, a_disk(name="disk40"))


def test_scsi_disks_are_refused_by_field() -> None:
    with pytest.raises(InvalidMessage, match="use qemu") as refused:
        design_machine(instance(a_disk(), a_disk("scsi")))
    assert refused.value.field == "instance.block_devices[1].disk_bus"
    with pytest.raises(InvalidMessage) as later:
        add_disk(design_machine(instance()), a_disk("scsi", "disk1"))
    assert later.value.field == "block_device.disk_bus"


def test_limits_on_all_disks_together_are_refused_for_nobody_would_keep_them() -> None:
    with pytest.raises(InvalidMessage, match="use qemu") as refused:
        design_machine(instance(**{"quota:cpu_quota": "50000", "quota:disk_read_iops_sec": "7"}))
    assert refused.value.field == "instance.flavor.extra_specs['quota:disk_read_iops_sec']"
    assert design_machine(instance(**{"quota:cpu_quota": "50000"}))


def test_two_first_boot_disks_are_refused() -> None:
    first = BlockDevice(source_type="blank", size_gb=1, boot_index=0)
    with pytest.raises(InvalidMessage, match=r"block_devices\[1\]\.boot_index"):
        design_machine(instance(first, first))
