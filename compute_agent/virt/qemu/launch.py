"""Starting a guest's QEMU."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from compute_agent.host.confinement.launcher import Launcher
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.contract import StartRequest
from compute_agent.virt.process.console_ring import ConsoleRing
from compute_agent.virt.process.launch import Launch, Program, listen, open_file, until_closed
from compute_agent.virt.process.limits import Limits
from compute_agent.virt.process.paths import GuestPaths
from compute_agent.virt.qemu.block_layer import passphrase_file
from compute_agent.virt.qemu.block_nodes import check_aio, connection_name, local_files, top_names
from compute_agent.virt.qemu.command_line import GuestDescriptors, command_line
from compute_agent.virt.qemu.limits import limits_of
from compute_agent.virt.settings import VirtSettings

_LOCK = "fork-server.lock"


class QemuLaunch(Launch):
    """:raises HostError: cgroups cannot be used, or an earlier agent has not come to its end."""

    def __init__(self, settings: VirtSettings) -> None:
        self._binary = shutil.which(settings.qemu_binary) or settings.qemu_binary
        super().__init__(settings, self._make_launcher(settings) if settings.confine_guests else None)

    def _make_launcher(self, settings: VirtSettings) -> Launcher:
        # Besides /usr, the whole of where the program was installed: it finds its firmware and modules there.
        tree = Path(self._binary).resolve().parent.parent
        trees = [] if tree in (Path("/"), Path("/usr")) else [str(tree)]
        launcher = Launcher(settings.run_dir / _LOCK, trees)
        launcher.prepare()
        return launcher

    def _program(self, opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> Program:
        for disk in request.disks:
            check_aio(disk, confined=self._settings.confine_guests)
        fds = _open_all(opened, request, paths, ring)
        nics = [fd for nic in request.nics for fd in (*nic.tap_fds, *nic.vhost_fds)]
        return Program(command_line(self._binary, request, fds, self._settings.iothreads), [*fds.all(), *nics])

    def _limits(self, request: StartRequest) -> Limits:
        return limits_of(request)


def _open_all(opened: ExitStack, request: StartRequest, paths: GuestPaths, ring: ConsoleRing) -> GuestDescriptors:
    boot, tops = request.boot, [(disk, top_names(disk.name)[0]) for disk in request.disks]
    files = [(node, path, mode) for disk, top in tops for node, path, mode in local_files(disk, top)]
    return GuestDescriptors(
        monitor=listen(opened, paths.monitor_socket),
        console=listen(opened, paths.console_socket),
        guest_agent=listen(opened, paths.guest_agent_socket),
        console_log=ring.shared,
        files={node: open_file(opened, path, mode) for node, path, mode in files},
        connections={connection_name(top): disk.source.fd for disk, top in tops if isinstance(disk.source, NbdSource)},
        passphrases={
            disk.name: until_closed(opened, passphrase_file(disk.passphrase)) for disk, _ in tops if disk.passphrase
        },
        kernel=open_file(opened, boot.kernel) if boot else None,
        ramdisk=open_file(opened, boot.ramdisk) if boot and boot.ramdisk else None,
        saved_state=open_file(opened, request.saved_state) if request.saved_state else None,
    )
