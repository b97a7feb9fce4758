"""Starting a block server, and finding one that was started before."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

from compute_agent.errors import GuestStartFailed, StorageError
from compute_agent.host.cgroups import CgroupParent
from compute_agent.host.confinement.launcher import Confinement, Launcher
from compute_agent.host.confinement.users import choose_user, owners_in
from compute_agent.host.process_log import open_log
from compute_agent.host.processes import Process, ProcessEntry, find_processes
from compute_agent.host.unix_sockets import listen_at
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.storage.server.command_line import command_line
from compute_agent.storage.server.limits import LIMITS, memory_limit
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.settings import BLOCK_SERVER_UIDS, BlockServerSettings

_LOCK = "fork-server.lock"
_CONNECTIONS = 64
"""That wait to be accepted."""
_ENVIRONMENT = {"PATH": os.defpath, "HOME": "/"}


class ServerLaunch:
    """Makes the processes, with a fork server that is there from the first one on: not every node has any.

    :raises HostError: control groups cannot be used.
    """

    def __init__(self, settings: BlockServerSettings) -> None:
        self._settings = settings
        self._program = shutil.which(settings.program) or settings.program
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None
        self._cgroups = CgroupParent(settings.cgroup_dir)

    def get_ready(self) -> Launcher:
        """When this returns, what the last agent began to start has been started.

        :raises HostError: the last agent's fork server does not come to an end.
        """
        with self._lock:
            if self._launcher is None:
                self._launcher = Launcher(self._settings.run_dir / _LOCK)
            return self._launcher

    def start(self, paths: ServerPaths) -> Process:
        """A server that serves nothing yet. One can connect to its sockets at once.

        :raises HostError: it cannot be made, or limited; nothing runs.
        """
        launcher = self.get_ready()
        try:
            with ExitStack() as opened:
                uid = self._claim_user(paths)
                monitor = opened.enter_context(listen_at(paths.monitor_socket)).fileno()
                nbd = opened.enter_context(listen_at(paths.nbd_socket, _CONNECTIONS)).fileno()
                log = open_log(paths.log)
                opened.callback(os.close, log)
                cgroups = self._join_group(opened, paths)
                return launcher.spawn(
                    command_line(self._program, monitor=monitor, nbd=nbd),
                    _ENVIRONMENT,
                    pass_fds=[monitor, nbd],
                    log_fd=log,
                    confinement=Confinement(uid=uid, is_server=True, cgroups=cgroups),
                )
        except (OSError, GuestStartFailed) as error:
            raise StorageError(f"a block server cannot be started: {error}") from error

    def allow(self, paths: ServerPaths, guest_memory: int) -> None:
        """Let a server share so many bytes with its guest.

        :raises HostError: the kernel refuses.
        """
        self._cgroups.limit(paths.run.name, [memory_limit(guest_memory)])

    def inspect(self) -> set[str]:
        """The names of directories and control groups that servers have, or have left."""
        return {entry.name for entry in self._settings.run_dir.iterdir()} | self._cgroups.names()

    def forget(self, paths: ServerPaths) -> None:
        """Remove what a server that has ended has left. Nothing happens where there is nothing.

        :raises HostError: a process of it is there.
        """
        self._cgroups.remove(paths.run.name)
        paths.remove()

    def close(self) -> None:
        """Servers go on."""
        if self._launcher is not None:
            self._launcher.close()

    def _join_group(self, opened: ExitStack, paths: ServerPaths) -> list[int]:
        if not self._cgroups.controllers:
            return []
        group = self._cgroups.create(paths.run.name, LIMITS)
        opened.callback(os.close, group)
        return [group]

    def _claim_user(self, paths: ServerPaths) -> int:
        ours = range(self._settings.uid_base, self._settings.uid_base + BLOCK_SERVER_UIDS)
        with self._lock:
            owners = owners_in(self._settings.run_dir, UUID_PATTERN)
            uid = choose_user(paths.run.name, owners, ours, "block servers")
            paths.create(uid)
            return uid


def find_servers(run_dir: Path) -> dict[str, Process]:
    """The processes of all block servers whose directories are in `run_dir`, by instance uuid."""
    owners = {uid: uuid for uuid, uid in owners_in(run_dir, UUID_PATTERN).items() if uid != 0}

    def recognise(entry: ProcessEntry) -> str | None:
        return owners.get(entry.uid or 0)

    return find_processes(recognise)
