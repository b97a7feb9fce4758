"""Starting a guest's QEMU."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from compute_agent.errors import GuestStartFailed, HostError
from compute_agent.host.cgroups import CgroupParent
from compute_agent.host.confinement.launcher import Confinement, Launcher
from compute_agent.host.process_log import open_log
from compute_agent.host.processes import Process
from compute_agent.host.unix_sockets import listen_at
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.qemu.block_layer import passphrase_file
from compute_agent.virt.qemu.block_nodes import check_aio, connection_name, local_files, top_names
from compute_agent.virt.qemu.command_line import GuestDescriptors, command_line
from compute_agent.virt.qemu.console_ring import ConsoleRing
from compute_agent.virt.qemu.identity import claim_user, environment_of
from compute_agent.virt.qemu.limits import limits_of
from compute_agent.virt.qemu.paths import GuestPaths
from compute_agent.virt.settings import VirtSettings

_LOCK = "fork-server.lock"


class Launch:
    """Starts processes: confined ones, or (where the settings say so) ordinary ones of the agent's own user.

    :raises HostError: cgroups cannot be used, or an earlier agent has not come to its end.
    """

    def __init__(self, settings: VirtSettings) -> None:
        self._settings = settings
        self._binary = shutil.which(settings.qemu_binary) or settings.qemu_binary
        self.cgroups = CgroupParent(settings.cgroup_dir) if settings.confine_guests else None
        self._launcher = self._make_launcher() if settings.confine_guests else None

    def start(self, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Process:
        """A process of its own for the guest; its machine is being made, and its vCPUs do not run yet.

        The monitor's socket listens before QEMU runs, so one can connect at once and need not try again.

        :raises GuestStartFailed: a file cannot be opened, or the process cannot be made; nothing runs.
        """
        try:
            for disk in request.disks:
                check_aio(disk, confined=self._settings.confine_guests)
            with ExitStack() as opened:
                uid = claim_user(self._settings, paths)
                fds = _open_all(opened, request, paths, ring)
                log = _until_closed(opened, open_log(paths.qemu_log))
                nics = [fd for nic in request.nics for fd in (*nic.tap_fds, *nic.vhost_fds)]
                arguments = command_line(self._binary, request, fds, self._settings.iothreads)
                environment, pass_fds = environment_of(paths), [*fds.all(), *nics]
                if self._launcher is None:
                    return Process.spawn(arguments, environment, pass_fds=pass_fds, log_fd=log)
                return self._launcher.spawn(
                    arguments,
                    environment,
                    pass_fds=pass_fds,
                    log_fd=log,
                    confinement=self._confinement(opened, uid, request),
                )
        except (OSError, HostError) as error:
            raise GuestStartFailed(f"QEMU cannot be started: {error}") from error

    def close(self) -> None:
        """Guests go on."""
        if self._launcher is not None:
            self._launcher.close()

    def _make_launcher(self) -> Launcher:
        # Besides /usr, the whole of where the program was installed: it finds its firmware and modules there.
        tree = Path(self._binary).resolve().parent.parent
        trees = [] if tree in (Path("/"), Path("/usr")) else [str(tree)]
        launcher = Launcher(self._settings.run_dir / _LOCK, trees)
        launcher.prepare()
        return launcher

    def _confinement(self, opened: ExitStack, uid: int, request: StartRequest) -> Confinement:
        cgroups = []
        if self.cgroups is not None and self.cgroups.controllers:
            cgroups.append(_until_closed(opened, self.cgroups.create(request.instance.uuid, limits_of(request))))
        devices = ["kvm"] if request.machine.accelerator == "kvm" else []
        return Confinement(uid=uid, devices=devices, cgroups=cgroups)


def _open_all(opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> GuestDescriptors:
    boot, tops = request.boot, [(disk, top_names(disk.name)[0]) for disk in request.disks]
    return GuestDescriptors(
        monitor=_listen(opened, paths.monitor_socket),
        console=_listen(opened, paths.console_socket),
        guest_agent=_listen(opened, paths.guest_agent_socket),
        console_log=ring.shared,
        files={node: _open(opened, path, mode) for disk, top in tops for node, path, mode in local_files(disk, top)},
        connections={connection_name(top): disk.source.fd for disk, top in tops if isinstance(disk.source, NbdSource)},
        passphrases={
            disk.name: _until_closed(opened, passphrase_file(disk.passphrase)) for disk, _ in tops if disk.passphrase
        },
        kernel=_open(opened, boot.kernel) if boot else None,
        ramdisk=_open(opened, boot.ramdisk) if boot and boot.ramdisk else None,
        saved_state=_open(opened, request.saved_state) if request.saved_state else None,
    )


def _listen(opened: ExitStack, path: Path) -> int:
    return opened.enter_context(listen_at(path)).fileno()


def _open(opened: ExitStack, path: Path, mode: int = os.O_RDONLY) -> int:
    return _until_closed(opened, os.open(path, mode | os.O_CLOEXEC))


def _until_closed(opened: ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd
