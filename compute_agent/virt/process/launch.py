"""Starting a guest's process."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from compute_agent.errors import GuestStartFailed, HostError
from compute_agent.host.cgroups import CgroupParent
from compute_agent.host.confinement.launcher import Confinement, Launcher
from compute_agent.host.process_log import open_log
from compute_agent.host.processes import Process
from compute_agent.host.unix_sockets import listen_at
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.identity import claim_user, environment_of
from compute_agent.virt.process.limits import Limits
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.settings import VirtSettings


@dataclass(frozen=True, slots=True)
class Program:
    """What is to be run."""

    arguments: Sequence[str]
    pass_fds: Sequence[int]
    """Open descriptors that it inherits under the same numbers."""


class Launch(ABC):
    """Starts processes: confined ones, or (where the settings say so) ordinary ones of the agent's own user."""

    def __init__(self, settings: VirtSettings, launcher: Launcher | None) -> None:
        """:raises HostError: cgroups cannot be used."""
        self._settings = settings
        self.cgroups = CgroupParent(settings.cgroup_dir) if settings.confine_guests else None
        self._launcher = launcher

    def start(self, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Process:
        """A process of its own for the guest; its machine is being made, and its vCPUs do not run yet.

        The monitor's socket listens before the program runs, so one can connect at once and need not try again.

        :raises GuestStartFailed: a file cannot be opened, or the process cannot be made; nothing runs.
        """
        try:
            with ExitStack() as opened:
                uid = claim_user(self._settings, paths, request.machine.hypervisor)
                program = self._program(opened, request, paths, ring)
                log = until_closed(opened, open_log(paths.process_log))
                confinement = self._confinement(opened, uid, request) if self._launcher else None
                return self._spawn(program, paths, log, confinement)
        except (OSError, HostError) as error:
            raise GuestStartFailed(f"the guest's process cannot be started: {error}") from error

    def close(self) -> None:
        """Guests go on."""
        if self._launcher is not None:
            self._launcher.close()

    @abstractmethod
    def _program(self, opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Program:
        """The guest's; what is opened for it is closed with `opened`.

        :raises OSError, HostError: it cannot have what is requested.
        """

    @abstractmethod
    def _limits(self, request: StartRequest) -> Limits:
        """Of its control group."""

    def _spawn(self, program: Program, paths: GuestPaths, log: int, confinement: Confinement | None) -> Process:
        arguments, environment, pass_fds = program.arguments, environment_of(paths), program.pass_fds
        if self._launcher is None or confinement is None:
            return Process.spawn(arguments, environment, pass_fds=pass_fds, log_fd=log)
        return self._launcher.spawn(arguments, environment, pass_fds=pass_fds, log_fd=log, confinement=confinement)

    def _confinement(self, opened: ExitStack, uid: int, request: StartRequest) -> Confinement:
        cgroups = []
        if self.cgroups is not None and self.cgroups.controllers:
            cgroups.append(until_closed(opened, self.cgroups.create(request.instance.uuid, self._limits(request))))
        devices = ["kvm"] if request.machine.accelerator == "kvm" else []
        return Confinement(uid=uid, devices=devices, cgroups=cgroups)


def listen(opened: ExitStack, path: Path) -> int:
    """A socket that listens at `path`."""
    return opened.enter_context(listen_at(path)).fileno()


def open_file(opened: ExitStack, path: Path, mode: int = os.O_RDONLY) -> int:
    """:raises OSError: it cannot be opened."""
    return until_closed(opened, os.open(path, mode | os.O_CLOEXEC))


def until_closed(opened: ExitStack, fd: int) -> int:
    """The descriptor, which is closed with the stack."""
    opened.callback(os.close, fd)
    return fd
