"""A guest's way in: a QEMU that was started with ``-incoming defer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compute_agent.block.keys import CREDENTIALS
from compute_agent.errors import MonitorError
from compute_agent.host import page_faults
from compute_agent.host.qmp import Execute
from compute_agent.virt.process.descriptors import handed_over
from compute_agent.virt.process.incoming import ProcessIncoming
from compute_agent.virt.qemu.migration.encryption import forget_key, use_key

_LISTENER = "migration-disks"
_NOT_RUNNING = "not running"
"""QEMU's words for a server that is to be stopped, and was not started."""


class QemuIncoming(ProcessIncoming):
    """The `compute_agent.virt.migration.IncomingMigration` of one guest."""

    def __init__(self, execute: Execute, top: Callable[[str], str], run: Path) -> None:
        """`top` finds a disk's top node; `run` is the guest's run directory."""
        super().__init__(execute)
        self._top = top
        self._run = run
        self._encryption: Mapping[str, str] = {}

    def prepare(self) -> None:
        """See the contract. Left alone, QEMU would take over disks and addresses when the last byte has come."""
        capabilities = ["late-block-activate"]
        if page_faults.find_problem(privileged=self._run.stat().st_uid == 0) is None:
            capabilities.append("postcopy-ram")  # does nothing where the other side does not begin with it
        states = [{"capability": name, "state": True} for name in capabilities]
        self._execute("migrate-set-capabilities", {"capabilities": states})
        self._execute("migrate-set-parameters", {"announce-rounds": 0})

    def use_key(self, key: str | None) -> None:
        """See the contract."""
        self.shut_disks()
        if key is None:
            forget_key(self._execute, self._run)
            self._encryption = {}
        else:
            use_key(self._execute, self._run, key, "server")
            self._encryption = {"tls-creds": CREDENTIALS}

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        """See the contract."""
        self.shut_disks()
        address = {"type": "fd", "data": {"str": _LISTENER}}
        with handed_over(self._execute, {_LISTENER: listener}):
            self._execute("nbd-server-start", {"addr": address, **self._encryption})
        for disk in disks:
            export = {"type": "nbd", "id": f"migration-{disk}", "node-name": self._top(disk), "name": disk}
            self._execute("block-export-add", export | {"writable": True})

    def shut_disks(self) -> None:
        """See the contract."""
        try:
            self._execute("nbd-server-stop")
        except MonitorError as error:
            if _NOT_RUNNING not in str(error):
                raise
