"""Which hypervisor an instance gets, why, and that it stays with it."""

from __future__ import annotations

import logging
from typing import Any, get_args

import pytest

from compute_agent.errors import HostError, InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import HypervisorName, Machine
from compute_agent.instance.model import Flavor, Instance
from compute_agent.virt.choice import Configured, choose
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.hypervisors import Hypervisors

UUID = "5e0c2ef7-2a6f-4b8e-9d0a-0c7a3f3e1b11"
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


def both(configured: Configured = "auto", problem: str | None = None) -> Hypervisors:
    return Hypervisors(configured, FakeHypervisor("qemu"), FakeHypervisor("vmm", problem))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("configured", "wanted", "name"),
    [
        ("auto", None, "qemu"),
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


def test_a_flavor_that_wants_what_the_host_is_not_to_use_is_refused() -> None:
    with pytest.raises(HostError, match="hw:hypervisor is vmm"):
        choose(an_instance(hw_hypervisor="vmm"), "qemu")
    with pytest.raises(InvalidMessage, match="must be qemu or vmm"):
        both().check(an_instance(hw_hypervisor="xen"))


def test_the_chosen_one_is_asked_before_anything_happens() -> None:
    broken = both(problem="no KVM")
    broken.check(an_instance())
    with pytest.raises(HostError, match="no KVM"):
        broken.check(an_instance(hw_hypervisor="vmm"))


def test_a_host_tells_what_it_can_use_and_why_not() -> None:
    found = both("vmm", problem="no KVM").describe()
    assert (found["name"], found["problems"]) == ("qemu", {"qemu": None, "vmm": "no KVM"})
    assert found["unasked"] == {"hypervisor": "vmm", "reason": "[virt] hypervisor is vmm"}
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
