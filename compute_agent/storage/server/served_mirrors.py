"""Copies of disks that a block server has open, to the host that its guest moves to."""

from __future__ import annotations

from compute_agent.block.keys import CREDENTIALS
from compute_agent.block.mirror_jobs import MirrorJobs
from compute_agent.errors import MonitorError
from compute_agent.instance.devices import NbdSource
from compute_agent.storage.server.encryption import forget_key, use_key
from compute_agent.storage.server.graph import remote_node
from compute_agent.storage.server.peers import cut_off, peer_in, peer_of
from compute_agent.storage.server.server import BlockServer

_NOT_TRIED_AGAIN = 0.0
"""Seconds: whoever leads has just reached the other host; what fails is the key."""


class ServedMirrors(MirrorJobs):
    """The `compute_agent.block.mirrors.DiskMirrors` of one server, over its monitor.

    It takes no connection from anybody: it makes one of its own to where a target leads.
    """

    def __init__(self, server: BlockServer) -> None:
        super().__init__(server.control.ask, server.settings.command_timeout)
        self._server = server
        server.control.listen(self.heard)

    def _top(self, disk: str) -> str:
        return disk

    def _open_target(self, node: str, target: NbdSource, key: str | None) -> None:
        peer = peer_of(target)
        if peer is None:
            raise MonitorError(f"{target.export} is to be copied to another host, and not on this one")
        remote = remote_node(node, peer, target.export, _NOT_TRIED_AGAIN) | {"discard": "unmap"}
        self._server.control.open_node(remote | ({"tls-creds": CREDENTIALS} if key else {}))

    def _use_key(self, key: str) -> None:
        use_key(self._server, key, "client")

    def _cut_off(self) -> None:
        cut_off(self._server.process, {peer_in(node["file"]) for node in self._targets().values()})

    def _remove(self) -> None:
        super()._remove()
        forget_key(self._server)
