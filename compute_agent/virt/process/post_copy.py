"""The rest of a guest's memory, which is sent when the guest goes on elsewhere already, as it is needed there.

Source: QEMU's qapi/migration.json (``migrate-start-postcopy``, ``migrate-recover``) and docs/devel/migration.rst.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from compute_agent.errors import MonitorError
from compute_agent.host.qmp import Execute
from compute_agent.virt.migration import MigrationProgress, Rest, Stage
from compute_agent.virt.process.descriptors import handed_over
from compute_agent.virt.process.way_left import WayLeft

MEMORY = "migration-memory"
"""The descriptor that memory comes or goes over."""
_REST = "migration-rest"
"""Likewise, after a connection was lost."""
_STAGES: Mapping[str, Stage] = {
    "postcopy-active": "rest",
    "postcopy-paused": "cut_off",
    "postcopy-recover": "cut_off",
}
"""By what ``query-migrate`` says on either side."""
CUT_OFF = tuple(status for status, stage in _STAGES.items() if stage == "cut_off")


def progress_of_rest(memory: Mapping[str, Any]) -> MigrationProgress | None:
    """How far it is, from what ``query-migrate`` says; None: it is not under way."""
    stage = _STAGES.get(str(memory.get("status")))
    return None if stage is None else replace(WayLeft().look(memory, []), stage=stage)


class OutgoingRest:
    """The part of `compute_agent.virt.migration.OutgoingMigration` that is about it."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def start_post_copy(self) -> None:
        """See the contract."""
        self._execute("migrate-start-postcopy")

    def reconnect(self, connection: int, key: str | None) -> None:
        """See the contract."""
        with suppress(MonitorError):  # no agent has died between handing one over and having it used
            self._execute("closefd", {"fdname": MEMORY})
        self._forget_key()
        if key is not None:
            self._use_key(connection, key)
        with handed_over(self._execute, {MEMORY: connection}):
            self._execute("migrate", {"uri": f"fd:{MEMORY}", "resume": True})

    @abstractmethod
    def _use_key(self, memory: int, key: str) -> None:
        """Encrypt what goes over the connection of that number from now on.

        :raises HostError, MigrationRefused: that cannot be.
        """

    @abstractmethod
    def _forget_key(self) -> None:
        """Nobody has a use for it any more. May be repeated."""


class IncomingRest:
    """The part of `compute_agent.virt.migration.IncomingMigration` that is about it."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def rest(self) -> Rest:
        """See the contract."""
        status = self._execute("query-migrate").get("status")
        if status == "completed":
            return "here"
        return "comes" if _STAGES.get(str(status)) == "rest" else "cut_off"

    def take_connection(self, connection: int) -> None:
        """See the contract. The monitor keeps it, also where the agent dies."""
        self.drop_connection()
        self._execute("getfd", {"fdname": _REST}, fd=connection)

    def fetch_rest(self) -> None:
        """See the contract."""
        self._execute("migrate-recover", {"uri": f"fd:{_REST}"})

    def drop_connection(self) -> None:
        """See the contract."""
        with suppress(MonitorError):  # there is none
            self._execute("closefd", {"fdname": _REST})
