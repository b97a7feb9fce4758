"""All block servers of this node."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable
from functools import partial

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.host.process_watch import ProcessWatch
from compute_agent.host.processes import Process
from compute_agent.host.qmp import MonitorLoop
from compute_agent.instance.devices import NbdSource, VhostUserSource
from compute_agent.instance.wire import UUID_PATTERN
from compute_agent.storage.server.admission import Admissions, take_back
from compute_agent.storage.server.exports import Export, ExportOf
from compute_agent.storage.server.launch import ServerLaunch, find_servers
from compute_agent.storage.server.moments import Room
from compute_agent.storage.server.paths import ADMISSION_SUFFIX, ServerPaths
from compute_agent.storage.server.served_disks import ServedDisks
from compute_agent.storage.server.served_moves import ServedMoves
from compute_agent.storage.server.server import BlockServer
from compute_agent.storage.server.settings import BlockServerSettings

LOG = logging.getLogger(__name__)

OnServerExit = Callable[[str], None]
"""Told the uuid of an instance whose block server has ended by itself."""


class BlockServers:
    """One process for each instance that has disks to be served; it outlives the agent, and is found again.

    All raise StorageError where a server cannot be started, refuses or has ended, and DeadlineExceeded. Changes may
    be repeated. For one instance they come one after the other.
    """

    def __init__(self, settings: BlockServerSettings, on_exit: OnServerExit) -> None:
        """Servers that are there are found. `on_exit` is called in the thread that watches them, and must not wait.

        :raises HostError: the last agent has not come to its end, or control groups cannot be used.
        """
        settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._settings = settings
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._launch = ServerLaunch(settings)
        self._loop = MonitorLoop()
        self._watch = ProcessWatch()
        self._admissions = Admissions()
        self._servers: dict[str, BlockServer] = {}
        if self.inspect():
            self._launch.get_ready()
        self._take_back()
        for instance_uuid, process in find_servers(settings.run_dir).items():
            self._keep(instance_uuid, process)

    def serves(self, instance_uuid: str, disk: str) -> bool:
        """The instance has a server, which serves this disk."""
        return disk in self.disks(instance_uuid)

    def disks(self, instance_uuid: str) -> set[str]:
        """Those that the instance's server serves, if it has one."""
        server = self._get(instance_uuid)
        return set() if server is None else server.disks()

    def serve(self, instance_uuid: str, exports: Iterable[Export]) -> None:
        """See that exactly these are served; a disk that is served already stays as it is."""
        wanted = {export.name: export for export in exports}
        server = self._get(instance_uuid)
        for disk in server.disks() - wanted.keys() if server else ():
            self.remove(instance_uuid, disk)
        for export in wanted.values():
            self.add(instance_uuid, export)

    def add(self, instance_uuid: str, export: Export, guest_memory: int = 0) -> None:
        """Serve one more disk; nothing happens where it is served. If it fails, nothing of it is left.

        `guest_memory`: bytes that the guest shares with the server, as vhost-user needs it.
        """
        server = self._get(instance_uuid) or self._start(instance_uuid)
        try:
            if guest_memory:
                self._launch.allow(self._paths(instance_uuid), guest_memory)
            server.add(export)
        except StorageError:
            self._stop_if_idle(instance_uuid, server)
            raise

    def remove(self, instance_uuid: str, disk: str) -> None:
        """Serve it no longer: its image is closed. With its last disk the server ends. Nothing happens without one.

        :raises DeadlineExceeded: the image's cluster is away; `stop` helps, where the instance's other disks allow it.
        """
        server = self._get(instance_uuid)
        if server is None:
            self._launch.forget(self._paths(instance_uuid))
        elif server.disks() <= {disk}:
            self._close_last(instance_uuid, server, disk)
        else:
            server.remove(disk)

    def resize(self, instance_uuid: str, export: Export, size: int) -> None:
        """Serve a disk, whose image has grown, with its new size in bytes; over NBD, to who connects from now on."""
        self._existing(instance_uuid).resize(export, size)

    def find_served_disks(self, instance_uuid: str, export_of: ExportOf, room: Room) -> ServedDisks | None:
        """Those that the instance's server has open for a guest; `room` is for what copies need meanwhile."""
        server = self._get(instance_uuid)
        return ServedDisks(server, export_of, room) if server is not None and server.has_guest() else None

    def find_served_moves(self, instance_uuid: str) -> ServedMoves | None:
        """The same, where the guest moves."""
        server = self._get(instance_uuid)
        return ServedMoves(server) if server is not None and server.has_guest() else None

    def connect(self, instance_uuid: str, disk: str) -> NbdSource:
        """A fresh connection to a disk; the caller closes it."""
        return self._existing(instance_uuid).connect(disk)

    def connect_vhost_user(self, instance_uuid: str, disk: str) -> VhostUserSource:
        """The same for a disk that is served over vhost-user-blk: to one client at a time."""
        return self._existing(instance_uuid).connect_vhost_user(disk)

    def is_alive(self, instance_uuid: str) -> bool:
        """The instance has a server."""
        return self._get(instance_uuid) is not None

    def stop(self, instance_uuid: str) -> None:
        """End the server, whatever it serves. When this returns, it is gone and has no file left."""
        server = self._get(instance_uuid)
        if server is not None:
            server.kill()
            self._forget(instance_uuid, server)
        self._launch.forget(self._paths(instance_uuid))

    def inspect(self) -> set[str]:
        """The instances that have a server, or that one has left something of."""
        return {name for name in self._launch.inspect() if re.fullmatch(UUID_PATTERN, name)}

    def close(self) -> None:
        """Let go of all servers, which go on."""
        self._watch.close()
        for server in self._servers.values():
            server.let_go()
        self._loop.close()
        self._launch.close()

    def _take_back(self) -> None:
        """What an agent that was killed had let servers open."""
        for note in self._settings.run_dir.glob(f"*{ADMISSION_SUFFIX}"):
            try:
                take_back(note)
            except OSError as error:
                LOG.error("A disk of instance %s still belongs to its block server: %s", note.stem, error)

    def _paths(self, instance_uuid: str) -> ServerPaths:
        return ServerPaths(self._settings.run_dir / instance_uuid)

    def _get(self, instance_uuid: str) -> BlockServer | None:
        with self._lock:
            server = self._servers.get(instance_uuid)
        return server if server is not None and not server.process.has_ended() else None

    def _existing(self, instance_uuid: str) -> BlockServer:
        server = self._get(instance_uuid)
        if server is None:
            raise StorageError(f"instance {instance_uuid} has no block server")
        return server

    def _start(self, instance_uuid: str) -> BlockServer:
        server = self._keep(instance_uuid, self._launch.start(self._paths(instance_uuid)))
        try:
            server.await_start()
        except StorageError:
            self.stop(instance_uuid)
            raise
        return server

    def _keep(self, instance_uuid: str, process: Process) -> BlockServer:
        paths = self._paths(instance_uuid)
        server = BlockServer(process, paths, self._loop, self._settings, self._admissions)
        with self._lock:
            self._servers[instance_uuid] = server
        self._watch.watch(process, partial(self._ended, instance_uuid, server))
        return server

    def _close_last(self, instance_uuid: str, server: BlockServer, disk: str) -> None:
        """An image that is closed by a killed server stays locked and watched for a while: it is the last resort."""
        try:
            server.remove(disk)
        except DeadlineExceeded as error:
            LOG.warning("The block server of instance %s is killed: %s", instance_uuid, error)
        self.stop(instance_uuid)

    def _stop_if_idle(self, instance_uuid: str, server: BlockServer) -> None:
        if server.process.has_ended() or not server.disks():
            self.stop(instance_uuid)

    def _ended(self, instance_uuid: str, server: BlockServer) -> None:
        server.let_go()
        self._forget(instance_uuid, server)
        if not server.is_unwanted:
            LOG.error("The block server of instance %s %s", instance_uuid, server.process.exit_reason())
            self._on_exit(instance_uuid)

    def _forget(self, instance_uuid: str, server: BlockServer) -> None:
        with self._lock:
            if self._servers.get(instance_uuid) is server:
                del self._servers[instance_uuid]
