"""One block server: its process, and what the agent may do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from compute_agent.block.graph import child_of
from compute_agent.block.jobs import end_jobs_of
from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.host.processes import Process
from compute_agent.host.qmp import MonitorLoop
from compute_agent.instance.devices import NbdSource, VhostUserSource
from compute_agent.storage.server.admission import Admissions
from compute_agent.storage.server.connections import await_nbd, connect_to_nbd, connect_to_vhost_user
from compute_agent.storage.server.control import Control
from compute_agent.storage.server.exports import Export, RbdExport
from compute_agent.storage.server.graph import export_arguments, limiting_node
from compute_agent.storage.server.names import arrival, disk_of, export_of, grown, newest
from compute_agent.storage.server.opening import Opening
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.settings import BlockServerSettings
from compute_agent.storage.server.throttling import forget_unused_limits, set_limits

_LOOK_AGAIN = 0.005


class BlockServer:
    """Serves an instance's disks. Safe to be used from several threads; each change may be repeated.

    All raise StorageError where the server refuses or has ended, and DeadlineExceeded.
    """

    def __init__(
        self,
        process: Process,
        paths: ServerPaths,
        loop: MonitorLoop,
        settings: BlockServerSettings,
        admissions: Admissions,
    ) -> None:
        self.process = process
        self.is_unwanted = False
        """It is being ended on purpose."""
        self.paths = paths
        self.settings = settings
        self.control = Control(process, paths, loop, settings)
        self.opening = Opening(self.control, paths, admissions)
        self._lock = threading.RLock()

    def await_start(self) -> None:
        """It has only just been started: wait until its monitor can be asked. Nobody may have asked before."""
        await_nbd(self.paths.nbd_socket, self.settings.start_timeout)

    def has_guest(self) -> bool:
        """It serves a disk over vhost-user-blk, to whatever runs its instance."""
        return "vhost-user-blk" in self.control.exports().values()

    def disks(self) -> set[str]:
        """The names of those that it serves."""
        return {disk_of(export) for export in self.control.exports()}

    def add(self, export: Export) -> None:
        """Serve a disk; nothing happens where it is served. If it fails, nothing of it is left."""
        with self._lock:
            transport = self._transport_of(export.name)
            if transport == export.transport:
                return
            if transport == "nbd":  # an agent that copied it was killed
                self.remove(export.name)
            elif transport is not None:
                raise StorageError(f"{export.name} is served to its guest, over {transport}")
            self._add(export.name, export)

    def remove(self, disk: str) -> None:
        """Serve it no longer: connections are cut, the image is closed. Nothing happens where it is not served."""
        with self._lock:
            end_jobs_of(self.control.execute, disk, self.settings.command_timeout)
            if arrival(disk) in self.control.all_exports():
                self._remove(arrival(disk))
            for export in self.control.exports():
                if disk_of(export) == disk:
                    self._remove(export)
            self._close_nodes(lambda node: disk_of(export_of(node)) == disk)
            forget_unused_limits(self.control)

    def limit(self, export: Export) -> None:
        """Put a disk that is served over vhost-user-blk under other limits, and all that shares them."""
        with self._lock:
            set_limits(self.control, export.name, export.qos)
            node = limiting_node(export.name, export, child_of(self.control.execute, export.name))
            self.control.execute("blockdev-reopen", {"options": [node]})
            forget_unused_limits(self.control)

    def resize(self, export: Export, size: int) -> None:
        """Serve a disk, whose image has grown, with its new size in bytes.

        NBD fixes the size of an export: the disk gets one more, for the next `connect`. Its former one stays for the
        connections that are there, and goes, when it is unused, with the next change.

        :raises StorageError: also for a file over NBD, which cannot be opened twice.
        """
        with self._lock:
            if export.transport == "vhost-user-blk":
                self.control.execute("block_resize", {"node-name": export.name, "size": size})
            elif not isinstance(export, RbdExport):
                raise StorageError(f"{export.name}: a file that is served over NBD cannot grow")
            elif (name := grown(export.name, size)) not in self.control.exports():
                self._add(name, export)

    def connect(self, disk: str) -> NbdSource:
        """A fresh connection, which the caller closes."""
        return NbdSource(export=self._newest(disk), fd=connect_to_nbd(self.paths.nbd_socket, self.process))

    def connect_vhost_user(self, disk: str) -> VhostUserSource:
        """The same for a disk that is served over vhost-user-blk. Until the one before ends, nobody answers on it."""
        return VhostUserSource(fd=connect_to_vhost_user(self.process, self._newest(disk)))

    def kill(self) -> None:
        """:raises DeadlineExceeded: it is not gone, and may still write."""
        self.is_unwanted = True
        self.process.kill()
        if not self.process.wait(self.settings.kill_timeout):
            raise DeadlineExceeded(f"block server: {self.process} was killed, but is not gone")

    def let_go(self) -> None:
        """Hang up; it goes on."""
        self.control.close()

    def _transport_of(self, disk: str) -> str | None:
        return next((kind for name, kind in self.control.exports().items() if disk_of(name) == disk), None)

    def _add(self, name: str, export: Export) -> None:
        self._remove_unused()
        self._close_unserved()
        try:
            self.opening.open(name, export)
            self.control.execute("block-export-add", export_arguments(name, export))
        except StorageError:
            if not self.process.has_ended():
                self._close_unserved()
            raise

    def _remove_unused(self) -> None:
        """Exports of disks that have a newer one, and nobody connected to the old."""
        exports = self.control.exports()
        for export in exports:
            if export != newest(disk_of(export), exports):
                self._remove(export, mode="safe")

    def _remove(self, export: str, mode: str = "hard") -> None:
        try:
            self.control.execute("block-export-del", {"id": export, "mode": mode})
        except StorageError:
            if mode == "safe":  # somebody is connected to it
                return
            raise
        self._await_end_of(export)
        self._close_nodes(lambda node: export_of(node) == export)

    def _await_end_of(self, export: str) -> None:
        deadline = time.monotonic() + self.settings.command_timeout
        while export in self.control.all_exports():
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"block server: export {export} does not end")
            time.sleep(_LOOK_AGAIN)

    def _close_unserved(self) -> None:
        """Images of exports that have gone, or have not come to be: an agent that was killed has left them open."""
        served = self.control.exports()
        self._close_nodes(lambda node: export_of(node) not in served)

    def _close_nodes(self, which: Callable[[str], bool]) -> None:
        for node in self.control.nodes():
            if which(node):
                self.control.execute("blockdev-del", {"node-name": node})

    def _newest(self, disk: str) -> str:
        export = newest(disk, self.control.exports())
        if export is None:
            raise StorageError(f"block server: {disk} is not served")
        return export
