"""The hypervisor `vmm`: a machine of our own for each guest, in a process of its own, on KVM."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from compute_agent.errors import HostError, InvalidMessage, MigrationRefused
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.model import Instance, Port
from compute_agent.instance.view import CpuView
from compute_agent.virt.contract import OnDiskFailure, OnGuestExit
from compute_agent.virt.placement import remove_device
from compute_agent.virt.process.hypervisor import ProcessHypervisor, check_settings, log_disk_failure
from compute_agent.virt.process.keeper import GuestKeeper
from compute_agent.virt.settings import VirtSettings
from compute_agent.virt.vmm.design import MACHINE_TYPE, add_disk, add_nic, design_machine
from compute_agent.virt.vmm.guest import VmmGuest
from compute_agent.virt.vmm.launch import VmmLaunch
from compute_agent.virt.vmm.moving import facts_here, require_compatible, require_machine
from compute_agent.virt.vmm.support import Support, find_support

_USE_QEMU = "use qemu"
_ASK_AGAIN = 10.0
"""Seconds that an answer which was no is good for."""


class VmmHypervisor(ProcessHypervisor[VmmGuest]):
    """Keeps `compute_agent.virt.contract.Hypervisor`; `on_exit` and `on_disk_failure` are called as those of `qemu`.

    :raises InvalidConfiguration: a directory cannot be used, or only root could do what is wanted.
    :raises HostError: control groups cannot be used, or an earlier agent has not come to its end.
    """

    def __init__(
        self,
        settings: VirtSettings,
        on_exit: OnGuestExit,
        on_disk_failure: OnDiskFailure = log_disk_failure,
        find: Callable[[VirtSettings], Support] = find_support,
    ) -> None:
        check_settings(settings)
        launch = VmmLaunch(settings)
        super().__init__(settings, launch, GuestKeeper(settings, "vmm", VmmGuest, on_exit, on_disk_failure))
        if settings.hypervisor == "vmm":
            launch.prepare()
        self._find = find
        self._support: Support | None = None
        self._found_at = 0.0
        self._support_lock = threading.Lock()

    def describe(self) -> Mapping[str, object]:
        return {"name": "vmm", "machine_type": MACHINE_TYPE, "problem": self._find_support().problem}

    def describe_cpu(self) -> CpuView:
        raise HostError("vmm gives its guests the host's own CPU: there is nothing to choose")

    def check(self, instance: Instance) -> None:
        design_machine(instance)
        super().check(instance)
        self._require(instance)

    def design(self, instance: Instance) -> Machine:
        self._require(instance)
        return design_machine(instance)

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        return add_disk(machine, device)

    def add_nic(self, machine: Machine, port: Port) -> Machine:
        return add_nic(machine, port)

    def remove_device(self, machine: Machine, name: str) -> Machine:
        return remove_device(machine, name)

    def facts(self, machine: Machine) -> HostFacts:
        return facts_here(self._supported().tsc_khz)

    def check_incoming(self, machine: Machine, facts: HostFacts | None, *, post_copy: bool = False) -> None:
        if post_copy:
            raise MigrationRefused("post-copy", "a guest of vmm goes on when all of its memory is there, not before")
        found = self._supported()
        require_machine(machine)
        if facts is not None:
            require_compatible(facts, found.tsc_khz)

    def _supported(self) -> Support:
        """:raises MigrationRefused: there can be no machine here."""
        found = self._find_support()
        if found.problem is not None:
            raise MigrationRefused("hypervisor", f"vmm cannot run guests here: {found.problem}")
        return found

    def _require(self, instance: Instance) -> None:
        """:raises HostError: this host has no KVM for it."""
        found = self._find_support()
        if found.problem is not None:
            raise HostError(f"vmm cannot run guests here: {found.problem}: {_USE_QEMU}")
        bios = self._settings.bios
        if instance.direct_boot is None and not bios.exists():
            raise HostError(
                f"virt.bios: there is no {bios}, which vmm boots from disks with: install seabios, or {_USE_QEMU}"
            )
        if instance.flavor.vcpus > found.max_vcpus:
            reason = f"KVM gives a guest {found.max_vcpus} at most"
            raise InvalidMessage("instance.flavor.vcpus", instance.flavor.vcpus, reason)

    def _find_support(self) -> Support:
        with self._support_lock:
            if self._support is None or self._may_be_mended():
                self._support, self._found_at = self._find(self._settings), time.monotonic()
            return self._support

    def _may_be_mended(self) -> bool:
        """Or it was too slow. Not to be asked for each guest: a KVM that does not work may take its time to say so."""
        assert self._support is not None
        return self._support.problem is not None and time.monotonic() >= self._found_at + _ASK_AGAIN
