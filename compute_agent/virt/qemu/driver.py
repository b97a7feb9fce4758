"""The hypervisor `qemu`: a QEMU process for each guest, started and driven by the agent itself."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict

from compute_agent.errors import InvalidConfiguration
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.model import Instance, Port
from compute_agent.instance.view import CpuView
from compute_agent.virt.contract import OnDiskFailure, OnGuestExit
from compute_agent.virt.placement import remove_device
from compute_agent.virt.process.compatibility import require_features
from compute_agent.virt.process.hypervisor import ProcessHypervisor, check_settings, log_disk_failure
from compute_agent.virt.process.identity import find_strangers
from compute_agent.virt.process.keeper import GuestKeeper
from compute_agent.virt.qemu.capabilities import Capabilities, find_capabilities
from compute_agent.virt.qemu.cpu import CpuSupport, find_cpu_support
from compute_agent.virt.qemu.design import add_disk, add_nic, design_machine
from compute_agent.virt.qemu.guest import QemuGuest
from compute_agent.virt.qemu.launch import QemuLaunch
from compute_agent.virt.qemu.migration.compatibility import facts_of, require_compatible, require_post_copy
from compute_agent.virt.settings import HOST_CPU, VirtSettings


class QemuHypervisor(ProcessHypervisor[QemuGuest]):
    """Keeps `compute_agent.virt.contract.Hypervisor`.

    `on_exit` and `on_disk_failure` are called from a thread of their own. A guest that powers itself off is always
    reported, also after its power button was pressed: only the caller knows whether it still waits for that.

    :raises InvalidConfiguration: a directory or the QEMU binary cannot be used, or only root could do what is wanted.
    :raises HostError: control groups cannot be used, or an earlier agent has not come to its end.
    """

    def __init__(
        self, settings: VirtSettings, on_exit: OnGuestExit, on_disk_failure: OnDiskFailure = log_disk_failure
    ) -> None:
        check_settings(settings)
        if shutil.which(settings.qemu_binary) is None:
            raise InvalidConfiguration("virt.qemu_binary", settings.qemu_binary, "there is no such program")
        launch = QemuLaunch(settings)
        super().__init__(settings, launch, GuestKeeper(settings, "qemu", QemuGuest, on_exit, on_disk_failure))
        self._capabilities: Capabilities | None = None
        self._cpu_support: CpuSupport | None = None
        self._capabilities_lock = threading.Lock()

    def describe(self) -> Mapping[str, object]:
        found = self._find_capabilities()
        return {
            "name": "qemu",
            "version": found.version,
            "machine_type": found.machine_type,
            "accelerator": found.accelerator.name,
            "accelerator_reason": found.accelerator.reason,
            "kvm": asdict(found.kvm),
        }

    def design(self, instance: Instance) -> Machine:
        found = self._find_capabilities()
        return design_machine(instance, found.machine_type, found.accelerator.name, self._settings.cpu_model)

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        return add_disk(machine, device)

    def add_nic(self, machine: Machine, port: Port) -> Machine:
        return add_nic(machine, port)

    def remove_device(self, machine: Machine, name: str) -> Machine:
        return remove_device(machine, name)

    def facts(self, machine: Machine) -> HostFacts:
        seen = frozenset() if machine.cpu == HOST_CPU else self._find_cpu_support().features_of(machine.cpu)
        return facts_of(machine, self._find_capabilities(), seen)

    def check_incoming(self, machine: Machine, facts: HostFacts | None, *, post_copy: bool = False) -> None:
        require_compatible(machine, facts, self._find_capabilities())
        if post_copy:
            require_post_copy(privileged=not self._settings.confine_guests and os.geteuid() == 0)
        if facts is not None and facts.cpu_features:
            require_features(facts.cpu_features, self.describe_cpu().features)

    def foreign(self) -> set[str]:
        return super().foreign() | find_strangers(self._settings.qemu_binary, self._keeper.pids())

    def describe_cpu(self) -> CpuView:
        return self._find_cpu_support().view

    def _find_cpu_support(self) -> CpuSupport:
        accelerator = self._find_capabilities().accelerator
        with self._capabilities_lock:
            if self._cpu_support is None:
                self._cpu_support = find_cpu_support(self._settings, accelerator)
            return self._cpu_support

    def _find_capabilities(self) -> Capabilities:
        with self._capabilities_lock:
            if self._capabilities is None:
                self._capabilities = find_capabilities(self._settings)
            return self._capabilities
