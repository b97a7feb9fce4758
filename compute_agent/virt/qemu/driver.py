"""The hypervisor `qemu`: a QEMU process for each guest, started and driven by the agent itself."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from compute_agent.errors import DeadlineExceeded, GuestError, GuestGone, GuestStartFailed, InvalidConfiguration
from compute_agent.host.process_log import last_lines
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import Disk
from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.virt.contract import DiskFailure, OnDiskFailure, OnGuestExit, StartRequest
from compute_agent.virt.qemu.capabilities import Capabilities, find_capabilities
from compute_agent.virt.qemu.console_log import ConsoleLog
from compute_agent.virt.qemu.console_ring import ConsoleRing
from compute_agent.virt.qemu.design import add_disk, design_machine, remove_disk
from compute_agent.virt.qemu.guest import QemuGuest
from compute_agent.virt.qemu.keeper import GuestKeeper
from compute_agent.virt.qemu.launch import Launch
from compute_agent.virt.qemu.limits import check_quota, io_limits
from compute_agent.virt.qemu.paths import GuestPaths, check_directories
from compute_agent.virt.settings import VirtSettings

LOG = logging.getLogger(__name__)


def _log_disk_failure(failure: DiskFailure) -> None:
    LOG.warning("Guest %s is paused: %s", failure.instance_uuid, failure)


class QemuHypervisor:
    """Keeps `compute_agent.virt.contract.Hypervisor`.

    `on_exit` and `on_disk_failure` are called from a thread of their own. A guest that powers itself off is always
    reported, also after its power button was pressed: only the caller knows whether it still waits for that.

    :raises InvalidConfiguration: a directory or the QEMU binary cannot be used, or only root could do what is wanted.
    :raises HostError: control groups cannot be used, or an earlier agent has not come to its end.
    """

    def __init__(
        self, settings: VirtSettings, on_exit: OnGuestExit, on_disk_failure: OnDiskFailure = _log_disk_failure
    ) -> None:
        check_directories(settings)
        if shutil.which(settings.qemu_binary) is None:
            raise InvalidConfiguration("virt.qemu_binary", settings.qemu_binary, "there is no such program")
        if settings.confine_guests and os.geteuid() != 0:
            raise InvalidConfiguration("virt.confine_guests", True, "only root can do that")
        self._settings = settings
        self._launch = Launch(settings)
        self._keeper = GuestKeeper(settings, on_exit, on_disk_failure)
        self._capabilities: Capabilities | None = None
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

    def check(self, instance: Instance) -> None:
        check_quota(instance, self._launch.cgroups.controllers if self._launch.cgroups else frozenset())

    def design(self, instance: Instance) -> Machine:
        found = self._find_capabilities()
        return design_machine(instance, found.machine_type, found.accelerator.name)

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        return add_disk(machine, device)

    def remove_disk(self, machine: Machine, name: str) -> Machine:
        return remove_disk(machine, name)

    def limit_disk(self, instance: Instance, disk: Disk) -> None:
        if self._launch.cgroups is not None and self._launch.cgroups.controllers:
            self._launch.cgroups.limit(instance.uuid, io_limits(instance, [disk]))

    def start(self, request: StartRequest) -> QemuGuest:
        guest = self._keeper.get(request.instance.uuid)
        if guest is not None and guest.status() in (PowerState.SHUTDOWN, PowerState.CRASHED):
            guest.kill()
            guest = None
        return self._go_on(guest, request) if guest is not None else self._start_anew(request)

    def adopt(self, instance_uuid: str) -> QemuGuest | None:
        return self._keeper.get(instance_uuid)

    def console_output(self, instance_uuid: str, length: int) -> bytes:
        guest = self._keeper.get(instance_uuid)
        if guest is not None and guest.console is not None:
            guest.console.drain()
        log = ConsoleLog(self._paths(instance_uuid).console_log, self._settings.console_log_size)
        return log.tail(length)

    def console_socket(self, instance_uuid: str) -> Path:
        return self._paths(instance_uuid).console_socket

    def saved_state_path(self, instance_uuid: str) -> Path:
        return self._paths(instance_uuid).saved_state

    def forget(self, instance_uuid: str) -> None:
        if self._launch.cgroups is not None:
            self._launch.cgroups.remove(instance_uuid)
        self._paths(instance_uuid).remove()

    def inspect(self) -> set[str]:
        directories = (self._settings.state_dir, self._settings.run_dir)
        names = {entry.name for directory in directories for entry in directory.iterdir()}
        if self._launch.cgroups is not None:
            names |= self._launch.cgroups.names()
        return {name for name in names if re.fullmatch(UUID_PATTERN, name)} | self._keeper.uuids()

    def close(self) -> None:
        self._keeper.close()
        self._launch.close()

    def _paths(self, instance_uuid: str) -> GuestPaths:
        return GuestPaths.of(self._settings, instance_uuid)

    def _find_capabilities(self) -> Capabilities:
        with self._capabilities_lock:
            if self._capabilities is None:
                self._capabilities = find_capabilities(self._settings)
            return self._capabilities

    def _start_anew(self, request: StartRequest) -> QemuGuest:
        guest = self._start_process(request)
        try:
            guest.wait_until_made()
            guest.begin(from_saved_state=request.saved_state is not None)
            guest.watch_over()
            if guest.process.has_ended():
                raise GuestGone(f"{guest.process} {guest.process.exit_reason()}")
        except (GuestError, DeadlineExceeded) as error:
            guest.kill()
            raise self._failed(request, error) from error
        return guest

    def _start_process(self, request: StartRequest) -> QemuGuest:
        paths = self._paths(request.instance.uuid)
        ring = ConsoleRing.create()
        try:
            process = self._launch.start(request, paths, ring)
        except GuestStartFailed:
            ring.close()
            raise
        return self._keeper.add(request.instance.uuid, process, ring)

    def _go_on(self, guest: QemuGuest, request: StartRequest) -> QemuGuest:
        """A predecessor has started it, and may have been killed before the guest ran. A time-out kills nothing."""
        try:
            guest.wait_until_made()
            guest.begin(from_saved_state=request.saved_state is not None)
        except GuestGone as error:
            raise self._failed(request, error) from error
        return guest

    def _failed(self, request: StartRequest, error: Exception) -> GuestStartFailed:
        return GuestStartFailed(f"{error}: {last_lines(self._paths(request.instance.uuid).qemu_log)}")
