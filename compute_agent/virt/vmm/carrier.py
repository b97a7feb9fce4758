"""What is carried out of a machine, or into it, by a thread of its own; followed as QEMU's migrations are.

Source: QEMU's qapi/migration.json (``migrate``, ``migrate-incoming``, ``query-migrate``, ``migrate_cancel``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Literal, Protocol

from compute_agent.errors import ComputeAgentError, MonitorError
from compute_agent.virt.vmm.process_log import say

Status = Literal["none", "active", "completed", "failed", "cancelled"]


class Load(Protocol):
    """What is to be carried."""

    @property
    def holds_still(self) -> bool:
        """The machine must not run now."""

    def carry(self) -> None:
        """All of it; then it has let go of what it was given.

        :raises InterruptedError: it was cancelled.
        :raises OSError, ComputeAgentError: it cannot be.
        """

    def cancel(self) -> None:
        """Let `carry` end soon; from any thread."""

    def describe(self) -> Mapping[str, object]:
        """How far it is, for ``query-migrate``; from any thread."""


class Carrier:
    """One load at a time. Safe to be used from several threads."""

    def __init__(self, tell: Callable[[Status], None]) -> None:
        """`tell` hears, on the carrier's thread, how a load has ended."""
        self._tell = tell
        self._status: Status = "none"
        self._reason = ""
        self._load: Load | None = None
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._run, name="carrier", daemon=True).start()  # later, none could be started

    @property
    def is_active(self) -> bool:
        """Something is being carried."""
        return self._status == "active"

    @property
    def holds_still(self) -> bool:
        """So that the machine must not run now."""
        return self.is_active and self._load is not None and self._load.holds_still

    def require_idle(self) -> None:
        """:raises MonitorError: something is being carried."""
        if self.is_active:
            raise MonitorError("There's a migration process in progress")

    def begin(self, load: Load) -> None:
        """Carry it.

        :raises MonitorError: something is being carried.
        """
        self.require_idle()
        self._load, self._status = load, "active"
        self._orders.put(lambda: self._carry(load))

    def afterwards(self, do: Callable[[], None]) -> None:
        """Do something on the carrier's thread when nothing is carried any more."""
        self._orders.put(do)

    def cancel(self) -> None:
        """Let it end soon. Nothing happens where nothing is carried."""
        if self.is_active and self._load is not None:
            self._load.cancel()

    def describe(self) -> Mapping[str, object]:
        """For ``query-migrate``."""
        if self._load is None:
            return {}
        answer: dict[str, object] = {"status": self._status}
        if self._status == "failed":
            answer["error-desc"] = self._reason
        return {**answer, **(self._load.describe() if self.is_active else {})}

    def _run(self) -> None:
        while True:
            self._orders.get()()

    def _carry(self, load: Load) -> None:
        try:
            load.carry()
            self._status = "completed"
        except InterruptedError:
            self._status = "cancelled"
        except (OSError, ComputeAgentError) as error:
            say(f"The machine was not carried: {error}")
            self._reason, self._status = str(error), "failed"
        self._tell(self._status)
