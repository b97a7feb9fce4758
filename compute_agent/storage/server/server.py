"""One block server: its process, and what the agent may do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.host.processes import Process
from compute_agent.host.qmp import MonitorLoop
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.server.connections import connect_to_nbd, connect_to_vhost_user
from compute_agent.storage.server.control import Control
from compute_agent.storage.server.exports import Export, RbdExport
from compute_agent.storage.server.graph import export_arguments
from compute_agent.storage.server.names import disk_of, export_of, grown, newest
from compute_agent.storage.server.opening import open_image
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.settings import BlockServerSettings

_LOOK_AGAIN = 0.005


class BlockServer:
    """Serves an instance's disks. Safe to be used from several threads; each change may be repeated.

    All raise StorageError where the server refuses or has ended, and DeadlineExceeded.
    """

    def __init__(self, process: Process, paths: ServerPaths, loop: MonitorLoop, settings: BlockServerSettings) -> None:
        self.process = process
        self.is_unwanted = False
        """It is being ended on purpose."""
        self._paths = paths
        self._settings = settings
        self._control = Control(process, paths, loop, settings)
        self._lock = threading.RLock()

    def disks(self) -> set[str]:
        """The names of those that it serves."""
        return {disk_of(export) for export in self._control.exports()}

    def add(self, export: Export) -> None:
        """Serve a disk; nothing happens where it is served. If it fails, nothing of it is left."""
        with self._lock:
            if export.name not in self.disks():
                self._add(export.name, export)

    def remove(self, disk: str) -> None:
        """Serve it no longer: connections are cut, the image is closed. Nothing happens where it is not served."""
        with self._lock:
            for export in self._control.exports():
                if disk_of(export) == disk:
                    self._remove(export)
            self._close_nodes(lambda node: disk_of(export_of(node)) == disk)

    def resize(self, export: Export, size: int) -> None:
        """Serve a disk, whose image has grown, with its new size in bytes.

        NBD fixes the size of an export: the disk gets one more, for the next `connect`. Its former one stays for the
        connections that are there, and goes, when it is unused, with the next change.

        :raises StorageError: also for a file over NBD, which cannot be opened twice.
        """
        with self._lock:
            if export.transport == "vhost-user-blk":
                self._control.execute("block_resize", {"node-name": export.name, "size": size})
            elif not isinstance(export, RbdExport):
                raise StorageError(f"{export.name}: a file that is served over NBD cannot grow")
            elif (name := grown(export.name, size)) not in self._control.exports():
                self._add(name, export)

    def connect(self, disk: str) -> NbdSource:
        """A fresh connection, which the caller closes."""
        return NbdSource(export=self._newest(disk), fd=connect_to_nbd(self._paths.nbd_socket))

    def connect_vhost_user(self, disk: str) -> int:
        """The same for a disk that is served over vhost-user-blk, which takes one connection at a time."""
        return connect_to_vhost_user(self.process, self._newest(disk))

    def kill(self) -> None:
        """:raises DeadlineExceeded: it is not gone, and may still write."""
        self.is_unwanted = True
        self.process.kill()
        if not self.process.wait(self._settings.kill_timeout):
            raise DeadlineExceeded(f"block server: {self.process} was killed, but is not gone")

    def let_go(self) -> None:
        """Hang up; it goes on."""
        self._control.close()

    def _add(self, name: str, export: Export) -> None:
        self._remove_unused()
        self._close_unserved()
        try:
            open_image(self._control, name, export, self._paths.owner)
            self._control.execute("block-export-add", export_arguments(name, export))
        except StorageError:
            if not self.process.has_ended():
                self._close_unserved()
            raise

    def _remove_unused(self) -> None:
        """Exports of disks that have a newer one, and nobody connected to the old."""
        exports = self._control.exports()
        for export in exports:
            if export != newest(disk_of(export), exports):
                self._remove(export, mode="safe")

    def _remove(self, export: str, mode: str = "hard") -> None:
        try:
            self._control.execute("block-export-del", {"id": export, "mode": mode})
        except StorageError:
            if mode == "safe":  # somebody is connected to it
                return
            raise
        self._await_end_of(export)
        self._close_nodes(lambda node: export_of(node) == export)

    def _await_end_of(self, export: str) -> None:
        deadline = time.monotonic() + self._settings.command_timeout
        while export in self._control.exports():
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"block server: export {export} does not end")
            time.sleep(_LOOK_AGAIN)

    def _close_unserved(self) -> None:
        """Images of exports that have gone, or have not come to be: an agent that was killed has left them open."""
        served = self._control.exports()
        self._close_nodes(lambda node: export_of(node) not in served)

    def _close_nodes(self, which: Callable[[str], bool]) -> None:
        for node in self._control.nodes():
            if which(node):
                self._control.execute("blockdev-del", {"node-name": node})

    def _newest(self, disk: str) -> str:
        export = newest(disk, self._control.exports())
        if export is None:
            raise StorageError(f"block server: {disk} is not served")
        return export
