from __future__ import annotations

import pytest

from compute_agent.errors import HostError, InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.wire import DiskBus
from compute_agent.virt.placement import remove_device
from compute_agent.virt.qemu.capabilities import newest_q35
from compute_agent.virt.qemu.design import add_disk, design_machine


def instance(disks: int, ports: int, boot_index: int | None = None) -> Instance:
    return Instance(
        uuid="6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a1",
        name="one",
        flavor=Flavor(vcpus=1, memory_mb=64),
        block_devices=[BlockDevice(source_type="blank", size_gb=1, boot_index=boot_index)] * disks,
        ports=[Port(id="7e0a2a2c-6a8f-4df6-8a5b-0a9bdf3a1c11", mac_address="fa:16:3e:00:00:01")] * ports,
    )


@pytest.mark.parametrize(
    ("disks", "ports", "root_ports"), [(0, 0, 16), (1, 1, 16), (4, 3, 16), (4, 4, 24), (16, 4, 32), (20, 11, 32)]
)
def test_each_device_gets_a_port_and_spare_ones_remain(disks: int, ports: int, root_ports: int) -> None:
    machine = design_machine(instance(disks, ports), "pc-q35-7.2", "tcg")
    assert list(machine.slots.values()) == list(range(disks + 1 + ports))
    assert machine.root_ports == root_ports


def test_cpu_follows_the_accelerator() -> None:
    assert design_machine(instance(1, 0), "pc-q35-7.2", "kvm").cpu == "host"
    assert design_machine(instance(1, 0), "pc-q35-7.2", "tcg").cpu == "max"


def test_a_cpu_that_is_wished_for_is_had_as_a_whole_under_kvm() -> None:
    assert design_machine(instance(1, 0), "pc-q35-7.2", "kvm", "EPYC-v1,+sse4a").cpu == "EPYC-v1,+sse4a,enforce"
    assert design_machine(instance(1, 0), "pc-q35-7.2", "tcg", "EPYC-v1").cpu == "max"


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(InvalidMessage, match="at most 32") as refused:
        design_machine(instance(24, 8), "pc-q35-7.2", "tcg")
    assert refused.value.field == "instance.block_devices"


def test_two_first_boot_disks_are_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"block_devices\[1\]\.boot_index"):
        design_machine(instance(2, 0, boot_index=0), "pc-q35-7.2", "tcg")


def named(name: str, bus: DiskBus = "virtio") -> BlockDevice:
    return BlockDevice(source_type="blank", size_gb=1, device_name=name, disk_bus=bus)


def test_disk_that_comes_gets_the_first_free_port_and_others_stay() -> None:
    machine = design_machine(instance(2, 1), "pc-q35-7.2", "tcg")
    assert machine.slots == {"disk0": 0, "disk1": 1, "config": 2, "net0": 3}
    machine = add_disk(remove_device(machine, "disk1"), named("disk5"))
    assert machine.slots == {"disk0": 0, "config": 2, "net0": 3, "disk5": 1}
    assert add_disk(machine, named("disk5")) == machine
    assert add_disk(machine, named("disk6")).slots["disk6"] == 4
    assert remove_device(machine, "disk9") == machine


def test_scsi_disks_share_the_port_of_their_controller() -> None:
    machine = add_disk(design_machine(instance(1, 0), "pc-q35-7.2", "tcg"), named("disk1", "scsi"))
    assert machine.slots == {"disk0": 0, "config": 1, "scsi0": 2}
    assert add_disk(machine, named("disk2", "scsi")) == machine
    assert remove_device(machine, "disk1") == machine


def test_machine_without_a_free_port_takes_no_disk() -> None:
    machine = design_machine(instance(23, 8), "pc-q35-7.2", "tcg")
    with pytest.raises(InvalidMessage, match="all 32 PCIe root ports"):
        add_disk(machine, named("disk40"))


def test_newest_machine_type_is_compared_by_number() -> None:
    assert newest_q35(["q35", "pc-q35-9.2", "pc-q35-10.0", "pc-i440fx-11.0", "pc-q35-10.0-extra"]) == "pc-q35-10.0"
    with pytest.raises(HostError):
        newest_q35(["q35", "microvm"])
