"""Copies of disks that a QEMU has open, to the host that its guest moves to."""

from __future__ import annotations

from collections.abc import Callable

from compute_agent.block.keys import CREDENTIALS
from compute_agent.block.mirror_jobs import TARGET, MirrorJobs
from compute_agent.host.qmp import Execute
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.process.descriptors import handed_over


class Mirrors(MirrorJobs):
    """The `compute_agent.block.mirrors.DiskMirrors` of one guest."""

    def __init__(self, execute: Execute, top: Callable[[str], str], seconds: float) -> None:
        """`top` finds a disk's top node."""
        super().__init__(execute, seconds)
        self._find_top = top

    def _top(self, disk: str) -> str:
        return self._find_top(disk)

    def _use_key(self, key: str) -> None:
        """QEMU has been told of it, which carries memory too."""

    def _open_target(self, node: str, target: NbdSource, key: str | None) -> None:
        server = {"type": "fd", "str": node}
        export = {"export": target.export, "discard": "unmap", **({"tls-creds": CREDENTIALS} if key else {})}
        with handed_over(self._execute, {node: target.fd}):
            self._execute("blockdev-add", {"driver": "nbd", "node-name": node, "server": server, **export})

    def _cut_off(self) -> None:
        for one in self._execute("query-yank"):
            if one["type"] == "block-node" and one["node-name"].endswith(TARGET):
                self._execute("yank", {"instances": [one]})
