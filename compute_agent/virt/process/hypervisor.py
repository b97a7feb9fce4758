"""What every hypervisor does alike whose guests are processes: starting, finding and forgetting them."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Generic

from compute_agent.errors import DeadlineExceeded, GuestError, GuestGone, GuestStartFailed, InvalidConfiguration
from compute_agent.host.process_log import last_lines
from compute_agent.instance.devices import Disk
from compute_agent.instance.model import Instance
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.virt.contract import DiskFailure, StartRequest
from compute_agent.virt.process.console_log import ConsoleLog
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.keeper import G, GuestKeeper
from compute_agent.virt.process.launch import Launch
from compute_agent.virt.process.limits import check_quota, io_limits
from compute_agent.virt.process.paths import GuestPaths, check_directories
from compute_agent.virt.settings import VirtSettings

LOG = logging.getLogger(__name__)

_LOCK_SUFFIX = ".lock"
"""Of the fork servers' files in the run directory."""


def log_disk_failure(failure: DiskFailure) -> None:
    """For those who have nobody to tell."""
    LOG.warning("Guest %s is paused: %s", failure.instance_uuid, failure)


def check_settings(settings: VirtSettings) -> None:
    """Make the directories of all guests.

    :raises InvalidConfiguration: a directory cannot be used, or only root could do what is wanted.
    """
    check_directories(settings)
    if settings.confine_guests and os.geteuid() != 0:
        raise InvalidConfiguration("virt.confine_guests", True, "only root can do that")


class ProcessHypervisor(Generic[G]):
    """The part of `compute_agent.virt.contract.Hypervisor` that is not about what machines are."""

    def __init__(self, settings: VirtSettings, launch: Launch, keeper: GuestKeeper[G]) -> None:
        """`launch` is made first: the processes that `keeper` looks for are all there then."""
        self._settings = settings
        self._launch = launch
        self._keeper = keeper

    def check(self, instance: Instance) -> None:
        check_quota(instance, self._launch.cgroups.controllers if self._launch.cgroups else frozenset())

    def limit_disk(self, instance: Instance, disk: Disk) -> None:
        if self._launch.cgroups is not None and self._launch.cgroups.controllers:
            self._launch.cgroups.limit(instance.uuid, io_limits(instance, [disk]))

    def start(self, request: StartRequest) -> G:
        guest = self._keeper.get(request.instance.uuid)
        return self._go_on(guest, request) if guest is not None else self._start_anew(request)

    def adopt(self, instance_uuid: str) -> G | None:
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
        names = {path.name for path in (*self._entries(), *self._groups())}
        return {name for name in names if re.fullmatch(UUID_PATTERN, name)} | self._keeper.uuids()

    def foreign(self) -> set[str]:
        found = {f"file {path}": path for path in self._entries()} | {f"group {path}": path for path in self._groups()}
        return {what for what, path in found.items() if not re.fullmatch(UUID_PATTERN, path.name)}

    def _entries(self) -> list[Path]:
        """Of the directories where each guest has one."""
        directories = (self._settings.state_dir, self._settings.run_dir)
        return [entry for directory in directories for entry in directory.iterdir() if entry.suffix != _LOCK_SUFFIX]

    def _groups(self) -> list[Path]:
        cgroups = self._launch.cgroups
        return [] if cgroups is None else [self._settings.cgroup_dir / name for name in cgroups.names()]

    def close(self) -> None:
        self._keeper.close()
        self._launch.close()

    def _paths(self, instance_uuid: str) -> GuestPaths:
        return GuestPaths.of(self._settings, instance_uuid)

    def _start_anew(self, request: StartRequest) -> G:
        guest = self._start_process(request)
        try:
            guest.wait_until_made()
            guest.begin(request)
            guest.watch_over()
            if guest.process.has_ended():
                raise GuestGone(f"{guest.process} {guest.process.exit_reason()}")
        except (GuestError, DeadlineExceeded) as error:
            guest.kill()
            raise self._failed(request, error) from error
        return guest

    def _start_process(self, request: StartRequest) -> G:
        paths = self._paths(request.instance.uuid)
        ring = ConsoleRing.create()
        try:
            process = self._launch.start(request, paths, ring)
        except GuestStartFailed:
            ring.close()
            raise
        return self._keeper.add(request.instance.uuid, process, ring)

    def _go_on(self, guest: G, request: StartRequest) -> G:
        """A predecessor has started it, and may have been killed before the guest ran. A time-out kills nothing."""
        try:
            guest.wait_until_made()
            guest.begin(request)
        except GuestGone as error:
            raise self._failed(request, error) from error
        return guest

    def _failed(self, request: StartRequest, error: Exception) -> GuestStartFailed:
        return GuestStartFailed(f"{error}: {last_lines(self._paths(request.instance.uuid).process_log)}")
