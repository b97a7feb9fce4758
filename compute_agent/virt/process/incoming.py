"""A guest's way into a process that was started to wait for it.

Source: QEMU's qapi/migration.json, which `vmm` keeps to as far as it is used here.
"""

from __future__ import annotations

from compute_agent.virt.process.descriptors import handed_over
from compute_agent.virt.process.post_copy import MEMORY, IncomingRest, progress_of_rest

_ROUNDS = 10
"""Of announcing, with pauses that grow from 50 ms to 550 ms: switches may have been slow to learn of the port."""


class ProcessIncoming(IncomingRest):
    """The part of `compute_agent.virt.migration.IncomingMigration` that is not about disks and keys."""

    def let_memory_in(self, connection: int) -> None:
        """See the contract."""
        with handed_over(self._execute, {MEMORY: connection}):
            self._execute("migrate-incoming", {"uri": f"fd:{MEMORY}"})

    def is_complete(self) -> bool:
        """See the contract."""
        memory = self._execute("query-migrate")
        if memory.get("status") != "completed" and progress_of_rest(memory) is None:
            return False
        return bool(self._execute("query-status")["status"] != "inmigrate")

    def announce(self) -> None:
        """See the contract."""
        self._execute("announce-self", {"initial": 50, "max": 550, "rounds": _ROUNDS, "step": 100})
