"""A guest's way out of its QEMU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compute_agent.host.qmp import Execute
from compute_agent.virt.migration import Pace
from compute_agent.virt.process.outgoing import ProcessOutgoing
from compute_agent.virt.process.post_copy import CUT_OFF
from compute_agent.virt.qemu.migration.encryption import forget_key, use_key
from compute_agent.virt.qemu.migration.mirrors import Mirrors
from compute_agent.virt.qemu.migration.taking_back import go_ahead_to_nowhere


class QemuOutgoing(ProcessOutgoing):
    """The `compute_agent.virt.migration.OutgoingMigration` of one guest. QEMU encrypts by itself."""

    _of_post_copy = ("postcopy-ram",)
    _of_compression = ("xbzrle",)

    def __init__(self, execute: Execute, top: Callable[[str], str], seconds: float, run: Path) -> None:
        """`top` finds a disk's top node; QEMU has `seconds` to end what it is told to; `run` is its run directory."""
        self._own_mirrors = Mirrors(execute, top, seconds)
        super().__init__(execute, self._own_mirrors, seconds)
        self._run = run

    def cancel(self) -> None:
        """See the contract."""
        if self._execute("query-migrate").get("status") in CUT_OFF:
            go_ahead_to_nowhere(self._execute, self._seconds)
        super().cancel()

    def heard(self, event: Mapping[str, Any]) -> None:
        """An event of the monitor, which tells of the disks, too."""
        self._own_mirrors.heard(event)
        super().heard(event)

    def _parameters(self, pace: Pace) -> dict[str, object]:
        return super()._parameters(pace) | {"max-postcopy-bandwidth": pace.bandwidth}

    def _use_key(self, memory: int, key: str) -> None:
        use_key(self._execute, self._run, key, "client")

    def _forget_key(self) -> None:
        forget_key(self._execute, self._run)
