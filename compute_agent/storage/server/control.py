"""What a block server is asked over its monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakMethod

from compute_agent.block.graph import from_the_top
from compute_agent.errors import GuestGone, MonitorError, StorageError
from compute_agent.host.process_log import last_lines
from compute_agent.host.processes import Process
from compute_agent.host.qmp import Monitor, MonitorLoop, OnEvent
from compute_agent.storage.server.lending import number_of
from compute_agent.storage.server.names import is_arrival
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.settings import BlockServerSettings

_HARMLESS = "query-version"


class Control:
    """Its monitor, in the words of this room: StorageError where the server refuses or has ended."""

    def __init__(self, process: Process, paths: ServerPaths, loop: MonitorLoop, settings: BlockServerSettings) -> None:
        self._process = process
        self._paths = paths
        self._settings = settings
        self._listeners: list[WeakMethod[OnEvent]] = []
        self._monitor = Monitor(loop, paths.monitor_socket, process, self._on_event)

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, fd: int | None = None) -> Any:
        """What it returns.

        :raises StorageError: it refused, and is as it was; or it has ended.
        :raises DeadlineExceeded: no answer in time.
        """
        return self._execute(command, arguments, self._settings.command_timeout, fd)

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The same, in the words of those who ask QEMUs too.

        :raises MonitorError: it refused, and is as it was.
        :raises StorageError: it has ended.
        :raises DeadlineExceeded: no answer in time.
        """
        return self._ask(command, arguments, self._settings.command_timeout)

    def open_node(self, node: Mapping[str, Any]) -> None:
        """Open a block node, which may take as long as `open_timeout`. Raises as `execute`."""
        self._execute("blockdev-add", node, self._settings.open_timeout, None)

    def lend(self, fd: int) -> str:
        """A path that the server can open, until it is lent the next one. Raises as `execute`.

        qemu-storage-daemon has no command that takes a descriptor. But what comes with any command stays open in it
        until the next one comes, and has a name in its own /proc as long. The file must be open to the server's user:
        opened anew, it is checked as any file is, but for the way to it.
        """
        self.execute(_HARMLESS, fd=fd)
        return f"/proc/self/fd/{number_of(self._process, fd)}"

    def exports(self) -> dict[str, str]:
        """Names of those that are for this host, and what each is served over."""
        return {name: kind for name, kind in self.all_exports().items() if not is_arrival(name)}

    def all_exports(self) -> dict[str, str]:
        """With those that the host has that a guest comes from."""
        return {entry["id"]: entry["type"] for entry in self.execute("query-block-exports")}

    def nodes(self) -> list[str]:
        """Names of all block nodes, those that stand on others before these."""
        return from_the_top(self.execute)

    def objects(self) -> set[str]:
        """Names of all objects that somebody has made. Before the first there is no place for them."""
        return self._children("/objects") if "objects" in self._children("/") else set()

    def listen(self, listener: OnEvent) -> None:
        """Tell a method of all events, as long as its owner is there. It must not wait for anything."""
        self._listeners = [one for one in self._listeners if one() is not None] + [WeakMethod(listener)]

    def close(self) -> None:
        """Hang up."""
        self._monitor.close()

    def _children(self, path: str) -> set[str]:
        return {child["name"] for child in self.execute("qom-list", {"path": path})}

    def _execute(
        self, command: str, arguments: Mapping[str, Any] | None, deadline: float, fd: int | None = None
    ) -> Any:
        try:
            return self._ask(command, arguments, deadline, fd)
        except MonitorError as error:
            raise StorageError(f"block server: {error}") from error

    def _ask(self, command: str, arguments: Mapping[str, Any] | None, deadline: float, fd: int | None = None) -> Any:
        try:
            return self._monitor.execute(command, arguments, deadline=deadline, fd=fd)
        except GuestGone as error:
            raise StorageError(f"block server: {error}: {last_lines(self._paths.log)}") from error

    def _on_event(self, event: Mapping[str, Any]) -> None:
        for listener in self._listeners:
            if (tell := listener()) is not None:
                tell(event)
