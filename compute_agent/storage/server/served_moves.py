"""Disks that a block server has open, and whose guest moves: on the host that it leaves, and on the one it comes to.

Where a guest comes in, the server's NBD is for the host that it comes from, and for nobody else::

    disk0            what the guest is served over, which waits for it
    disk0-arrival    what the other host writes to

Afterwards it is for this host's agent again, at a socket that the server has made by itself.

Source: QEMU's qapi/block-export.json (nbd-server-start, nbd-server-stop, block-export-add).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compute_agent.block.keys import CREDENTIALS
from compute_agent.errors import StorageError
from compute_agent.host.confinement.room import SOCKET_DIRECTORY
from compute_agent.storage.server.connections import OWN_NBD_SOCKET
from compute_agent.storage.server.encryption import forget_key, use_key
from compute_agent.storage.server.graph import arrival_arguments, tcp_address
from compute_agent.storage.server.served_mirrors import ServedMirrors
from compute_agent.storage.server.server import BlockServer

_IN_USE = "Address already in use"
_NOT_RUNNING = "not running"
"""QEMU's words."""


class ServedMoves:
    """The `compute_agent.storage.moving.contract.ServedMoves` of one server."""

    def __init__(self, server: BlockServer) -> None:
        self.mirrors = ServedMirrors(server)
        self._server = server
        self._execute = server.control.execute

    def let_in(self, disks: Sequence[str], address: str, ports: range, key: str | None) -> int:
        """See the contract."""
        self._server.paths.nbd_socket.unlink(missing_ok=True)
        self._stop_listening()
        if key is not None:
            use_key(self._server, key, "server")
        port = self._listen(address, ports, {"tls-creds": CREDENTIALS} if key else {})
        for disk in disks:
            self._execute("block-export-add", arrival_arguments(disk))
        return port

    def shut(self) -> None:
        """See the contract."""
        if not self._server.paths.nbd_socket.exists():
            self._stop_listening()
            path = f"{SOCKET_DIRECTORY}/{OWN_NBD_SOCKET}"
            self._execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": path}}})

    def _listen(self, address: str, ports: range, encryption: Mapping[str, str]) -> int:
        for port in ports:
            place = {"type": "inet", "data": tcp_address(address, port)}
            try:
                self._execute("nbd-server-start", {"addr": place, **encryption})
            except StorageError as error:
                if _IN_USE not in str(error):
                    raise
            else:
                return port
        raise StorageError(f"no port from {ports[0]} to {ports[-1]} of {address} is free")

    def _stop_listening(self) -> None:
        """To anybody; whoever is connected is cut off, and what he wrote through is gone."""
        try:
            self._execute("nbd-server-stop")
        except StorageError as error:
            if _NOT_RUNNING not in str(error):
                raise
        forget_key(self._server)
