"""Which hypervisor an instance gets, why, and that it stays with it."""

from __future__ import annotations

import logging
from typing import Any, get_args

import msgspec
import pytest

from compute_agent.errors import HostError, InvalidMessage
from compute_agent.instance.block_device import BlockDevice, Image, SourceFile
from compute_agent.instance.machine import HypervisorName, Machine
from compute_agent.instance.model import DirectBoot, Flavor, Instance
from compute_agent.virt.choice import Configured
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.hypervisors import Hypervisors

UUID = "5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11"
CHECKSUM = f"sha256:{'0' * 64}"
KERNEL = DirectBoot(kernel=SourceFile(url="file:///kernel", checksum=CHECKSUM))
DEVICE = BlockDevice(source_type="blank", size_gb=1, device_name="disk1")


class FakeHypervisor:
    """Answers with its name; has the guests that it has started."""

    def __init__(self, name: HypervisorName, problem: str | None = None) -> None:
        self.name = name
        self.problem = problem
        self.guests: set[str] = set()
        self.calls: list[str] = []

    def describe(self) -> dict[str, object]:
        return {"name": self.name, "problem": self.problem}

    def check(self, instance: Instance) -> None:
        if self.problem:
            raise HostError(self.problem)

    def design(self, instance: Instance) -> Machine:
        return Machine(hypervisor=self.name, type=f"{self.name}-1", accelerator="kvm", cpu="host", slots={})

    def start(self, request: StartRequest) -> str:
        self.guests.add(request.instance.uuid)
        return self.name

    def adopt(self, instance_uuid: str) -> str | None:
        return self.name if instance_uuid in self.guests else None

    def inspect(self) -> set[str]:
        return set(self.guests)

    def __getattr__(self, verb: str) -> Any:
        def called(*_: object) -> str:
            self.calls.append(verb)
            return self.name

        return called


def an_instance(**specs: str) -> Instance:
    flavor = Flavor(vcpus=1, memory_mb=64, extra_specs={name.replace("_", ":"): value for name, value in specs.items()})
    return Instance(uuid=UUID, name="one", flavor=flavor)


def an_instance_of(hypervisor: str, **specs: str) -> Instance:
    """Its image has that for its property."""
    image = Image(url="file:///image", checksum=CHECKSUM, disk_format="raw", properties={"hw_hypervisor": hypervisor})
    disk = BlockDevice(source_type="image", image=image)
    return msgspec.structs.replace(an_instance(**specs), block_devices=[disk])


def both(configured: Configured = "auto", problem: str | None = None) -> Hypervisors:
    return Hypervisors(configured, FakeHypervisor("qemu"), FakeHypervisor("vmm", problem))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("configured", "wanted", "name"),
    [
        ("auto", "vmm", "vmm"),
        ("auto", "qemu", "qemu"),
        ("vmm", None, "vmm"),
        ("vmm", "qemu", "qemu"),
        ("vmm", "vmm", "vmm"),
        ("qemu", None, "qemu"),
        ("qemu", "qemu", "qemu"),
    ],
)
def test_the_flavor_decides_then_the_option_and_the_record_says_which(
    configured: Configured, wanted: str | None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    instance = an_instance(**({"hw_hypervisor": wanted} if wanted else {}))
    with caplog.at_level(logging.INFO):
        machine = both(configured).design(instance)
    assert machine.hypervisor == name
    said = "hw:hypervisor" if wanted else f"[virt] hypervisor is {configured}"
    assert said in machine.hypervisor_reason
    assert machine.hypervisor_reason in caplog.text


@pytest.mark.parametrize(
    ("boot", "problem", "name", "reason"),
    [
        (KERNEL, None, "vmm", "vmm has all that is ordered"),
        (KERNEL, "no KVM", "qemu", "in the way of vmm: no KVM"),
        (None, None, "qemu", "what a disk boots may want a screen or UEFI"),
    ],
)
def test_where_nobody_decides_it_depends_on_the_guest_and_the_host(
    boot: DirectBoot | None, problem: str | None, name: str, reason: str
) -> None:
    machine = both(problem=problem).design(msgspec.structs.replace(an_instance(), direct_boot=boot))
    assert machine.hypervisor == name
    assert reason in machine.hypervisor_reason


def test_an_image_may_decide_but_not_against_the_flavor() -> None:
    assert both().design(an_instance_of("vmm")).hypervisor == "vmm"
    assert both().design(an_instance_of("qemu", hw_hypervisor="qemu")).hypervisor == "qemu"
    with pytest.raises(InvalidMessage, match=r"image.properties\['hw_hypervisor'\]: .*hw:hypervisor'\] is qemu .*vmm"):
        both().check(an_instance_of("vmm", hw_hypervisor="qemu"))
    with pytest.raises(InvalidMessage, match="must be qemu or vmm"):
        both().check(an_instance_of("esxi"))


def test_a_flavor_that_wants_what_the_host_is_not_to_use_is_refused() -> None:
    with pytest.raises(HostError, match="hw:hypervisor'] is vmm, but here"):
        both("qemu").check(an_instance(hw_hypervisor="vmm"))
    with pytest.raises(InvalidMessage, match="must be qemu or vmm"):
        both().check(an_instance(hw_hypervisor="xen"))


def test_the_chosen_one_is_asked_before_anything_happens() -> None:
    broken = both(problem="no KVM")
    broken.check(an_instance())  # that vmm cannot is no reason to refuse it
    with pytest.raises(HostError, match="no KVM"):
        broken.check(an_instance(hw_hypervisor="vmm"))


def test_a_host_tells_what_it_can_use_and_why_not() -> None:
    found = both("vmm", problem="no KVM").describe()
    assert (found["name"], found["problems"]) == ("qemu", {"qemu": None, "vmm": "no KVM"})
    assert found["unasked"] == {"hypervisor": "vmm", "reason": "[virt] hypervisor is vmm"}
    assert both(problem="no KVM").describe()["unasked"]["hypervisor"] == "qemu"  # type: ignore[index]
    assert both().describe()["unasked"]["hypervisor"] == "vmm"  # type: ignore[index]
    assert both("qemu").describe()["problems"] == {"qemu": None, "vmm": "[virt] hypervisor is qemu"}


@pytest.mark.parametrize("name", get_args(HypervisorName))
def test_an_instance_stays_with_its_hypervisor(name: HypervisorName) -> None:
    hypervisors = both("auto")
    instance = an_instance(hw_hypervisor=name)
    machine = hypervisors.design(instance)
    guest: Any = hypervisors.start(StartRequest(instance=instance, machine=machine, disks=[], nics=[]))
    assert [guest, hypervisors.adopt(UUID), hypervisors.inspect()] == [name, name, {UUID}]
    answers: list[Any] = [
        hypervisors.add_disk(machine, DEVICE),
        hypervisors.remove_device(machine, "disk1"),
        hypervisors.console_output(UUID, 10),
        hypervisors.console_socket(UUID),
        hypervisors.saved_state_path(UUID),
    ]
    assert answers == [name] * 5


def test_a_guest_that_does_not_run_is_found_by_any() -> None:
    hypervisors = both()
    assert hypervisors.adopt(UUID) is None
    answer: Any = hypervisors.saved_state_path(UUID)
    assert answer == "qemu"
