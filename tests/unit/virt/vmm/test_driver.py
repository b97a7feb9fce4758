"""What a host cannot give a machine of our own is refused before anything starts, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from compute_agent.errors import HostError, InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.model import DirectBoot, Flavor, Instance
from compute_agent.instance.model import SourceFile as File
from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm import driver
from compute_agent.virt.vmm.driver import VmmHypervisor
from compute_agent.virt.vmm.support import Support, find_support

WORKS = Support(problem=None, max_vcpus=4)
KERNEL = DirectBoot(kernel=File(url="file:///kernel", checksum=f"sha256:{'0' * 64}"))
Make = Callable[..., VmmHypervisor]


@pytest.fixture
def make(settings: VirtSettings, directory: Path) -> Iterator[Make]:
    """On a host with this support at first, and then another; without firmware."""
    made: list[VmmHypervisor] = []

    def make_one(*supports: Support) -> VmmHypervisor:
        answers = list(supports)
        without = replace(settings, bios=directory / "bios")
        made.append(VmmHypervisor(without, print, find=lambda _: answers.pop(0)))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def an_instance(vcpus: int = 1, boot: DirectBoot | None = KERNEL, disk: BlockDevice | None = None) -> Instance:
    return Instance(
        uuid="6f1c1f2e-7d57-4c77-93c5-1b0a45f5c3a1",
        name="one",
        flavor=Flavor(vcpus=vcpus, memory_mb=64),
        block_devices=[disk] if disk else [],
        direct_boot=boot,
    )


def test_a_host_without_kvm_runs_none(make: Make) -> None:
    hypervisor = make(*[Support(problem="there is no /dev/kvm")] * 3)
    for verb in (hypervisor.check, hypervisor.design):
        with pytest.raises(HostError, match="there is no /dev/kvm: use qemu"):
            verb(an_instance())
    assert hypervisor.describe() == {"name": "vmm", "machine_type": "vmm-1", "problem": "there is no /dev/kvm"}


def test_kvm_that_is_mended_is_found_and_looked_for_no_more(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor = make(Support(problem="no answer in time"), WORKS)
    assert [hypervisor.describe()["problem"] for _ in range(2)] == ["no answer in time"] * 2
    monkeypatch.setattr(driver, "_ASK_AGAIN", 0)
    assert [hypervisor.describe()["problem"] for _ in range(2)] == [None, None]


def test_emulation_is_no_kvm(settings: VirtSettings) -> None:
    assert "accelerator is tcg" in str(find_support(replace(settings, accelerator="tcg")).problem)


def test_more_vcpus_than_kvm_gives_a_guest(make: Make) -> None:
    hypervisor = make(WORKS)
    hypervisor.check(an_instance(vcpus=4))
    with pytest.raises(InvalidMessage, match="4 at most") as refused:
        hypervisor.check(an_instance(vcpus=5))
    assert (refused.value.field, refused.value.value) == ("instance.flavor.vcpus", 5)


def test_what_boots_from_a_disk_needs_firmware(make: Make, directory: Path) -> None:
    hypervisor = make(WORKS)
    with pytest.raises(HostError, match=r"virt\.bios"):
        hypervisor.check(an_instance(boot=None))
    (directory / "bios").touch()
    hypervisor.check(an_instance(boot=None))


def test_what_it_cannot_do_is_refused_when_it_is_ordered(make: Make) -> None:
    disk = BlockDevice(source_type="blank", size_gb=1, disk_bus="scsi")
    with pytest.raises(InvalidMessage, match="virtio disks only: use qemu"):
        make(WORKS).check(an_instance(disk=disk))
