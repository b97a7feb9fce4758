"""All hypervisors of a host as one: a new instance gets one of them, and stays with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import Disk
from compute_agent.instance.machine import HypervisorName, Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.model import Instance, Port
from compute_agent.instance.view import CpuView
from compute_agent.virt.choice import Choice, Configured, choose, explain_unasked
from compute_agent.virt.contract import Guest, Hypervisor, OnDiskFailure, OnGuestExit, StartRequest
from compute_agent.virt.qemu.driver import QemuHypervisor
from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm.driver import VmmHypervisor

LOG = logging.getLogger(__name__)


class Hypervisors:
    """Keeps `compute_agent.virt.contract.Hypervisor`. All of them keep their guests in the same directories."""

    def __init__(self, configured: Configured, qemu: Hypervisor, vmm: Hypervisor) -> None:
        self._configured = configured
        self._all: Mapping[HypervisorName, Hypervisor] = {"qemu": qemu, "vmm": vmm}

    def describe(self) -> Mapping[str, object]:
        """What QEMU says, and for each hypervisor why it cannot be used; None: it can."""
        problem = self._problem_of_vmm()
        choice = explain_unasked(self._configured, problem)
        return {
            **self._all["qemu"].describe(),
            "unasked": {"hypervisor": choice.name, "reason": choice.reason},
            "problems": {"qemu": None, "vmm": problem},
        }

    def check(self, instance: Instance) -> None:
        self._all[self._choose(instance).name].check(instance)

    def describe_cpu(self) -> CpuView:
        return self._all["qemu"].describe_cpu()

    def design(self, instance: Instance) -> Machine:
        choice = self._choose(instance)
        machine = self._all[choice.name].design(instance)
        LOG.info("The hypervisor is %s: %s", choice.name, choice.reason)
        return msgspec.structs.replace(machine, hypervisor_reason=choice.reason)

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        return self._all[machine.hypervisor].add_disk(machine, device)

    def add_nic(self, machine: Machine, port: Port) -> Machine:
        return self._all[machine.hypervisor].add_nic(machine, port)

    def remove_device(self, machine: Machine, name: str) -> Machine:
        return self._all[machine.hypervisor].remove_device(machine, name)

    def limit_disk(self, instance: Instance, disk: Disk) -> None:
        self._whose(instance.uuid).limit_disk(instance, disk)

    def start(self, request: StartRequest) -> Guest:
        return self._all[request.machine.hypervisor].start(request)

    def facts(self, machine: Machine) -> HostFacts:
        return self._all[machine.hypervisor].facts(machine)

    def check_incoming(self, machine: Machine, facts: HostFacts | None, *, post_copy: bool = False) -> None:
        self._all[machine.hypervisor].check_incoming(machine, facts, post_copy=post_copy)

    def adopt(self, instance_uuid: str) -> Guest | None:
        return self._whose(instance_uuid).adopt(instance_uuid)

    def console_output(self, instance_uuid: str, length: int) -> bytes:
        return self._whose(instance_uuid).console_output(instance_uuid, length)

    def console_socket(self, instance_uuid: str) -> Path:
        return self._whose(instance_uuid).console_socket(instance_uuid)

    def saved_state_path(self, instance_uuid: str) -> Path:
        return self._whose(instance_uuid).saved_state_path(instance_uuid)

    def forget(self, instance_uuid: str) -> None:
        self._whose(instance_uuid).forget(instance_uuid)

    def inspect(self) -> set[str]:
        return {uuid for one in self._all.values() for uuid in one.inspect()}

    def foreign(self) -> set[str]:
        return {what for one in self._all.values() for what in one.foreign()}

    def close(self) -> None:
        for one in self._all.values():
            one.close()

    def _choose(self, instance: Instance) -> Choice:
        return choose(instance, self._configured, self._all["vmm"].check)

    def _whose(self, instance_uuid: str) -> Hypervisor:
        """The one that runs the guest. Any of them knows the directories of a guest that does not run."""
        running = (one for one in self._all.values() if one.adopt(instance_uuid) is not None)
        return next(running, self._all["qemu"])

    def _problem_of_vmm(self) -> object:
        return self._all["vmm"].describe()["problem"] if self._configured != "qemu" else "[virt] hypervisor is qemu"


def open_hypervisors(settings: VirtSettings, on_exit: OnGuestExit, on_disk_failure: OnDiskFailure) -> Hypervisors:
    """Those of this host, with the guests that they have.

    :raises InvalidConfiguration: a directory or a program cannot be used, or only root could do what is wanted.
    :raises HostError: control groups cannot be used, or an earlier agent has not come to its end.
    """
    qemu = QemuHypervisor(settings, on_exit, on_disk_failure)
    return Hypervisors(settings.hypervisor, qemu, VmmHypervisor(settings, on_exit, on_disk_failure))
