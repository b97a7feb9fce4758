"""Where a guest of another host comes in: sockets that this agent opens, and hands to a process without a network."""

from __future__ import annotations

import logging
import secrets
import socket
from threading import Thread

from compute_agent.agent.arrivals import require_incoming
from compute_agent.agent.node import Node
from compute_agent.agent.settings import AgentSettings
from compute_agent.errors import ComputeAgentError
from compute_agent.host.listening import keep_alive, listen_on, resolve
from compute_agent.instance.migration import Gate
from compute_agent.virt.contract import Guest

LOG = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a gate stays open for memory."""
_KEY_SIZE = 32
"""Bytes."""


def migration_address(settings: AgentSettings) -> str:
    """This host's, on the network that guests are carried over.

    :raises HostError: the host's name has none.
    """
    return resolve(settings.migration.address or settings.host)


def open_gate(node: Node, instance_uuid: str, migration: str) -> Gate:
    """Let the guest in that comes by this migration; who came in by an earlier gate is cut off.

    :raises InstanceNotFound, MigrationRefused: none comes by it.
    :raises GuestGone: nothing waits for it any more.
    :raises HostError: no port is free.
    """
    incoming, guest = require_incoming(node, instance_uuid, migration), node.guest(instance_uuid)
    address, disks_port = migration_address(node.settings), None
    key = secrets.token_hex(_KEY_SIZE) if node.settings.migration.encrypt else None
    guest.incoming.use_key(key)
    if incoming.mirrored:
        with _listen(node, address) as listener:
            guest.incoming.let_disks_in(listener.fileno(), incoming.mirrored)
            disks_port = listener.getsockname()[1]
    listener = _listen(node, address)
    waiting = Thread(target=_let_memory_in, args=(listener, guest, resolve(incoming.address)), daemon=True)
    waiting.start()
    return Gate(address=address, memory_port=listener.getsockname()[1], disks_port=disks_port, key=key)


def _listen(node: Node, address: str) -> socket.socket:
    settings = node.settings.migration
    return listen_on(address, settings.first_port, settings.last_port)


def _let_memory_in(listener: socket.socket, guest: Guest, source: str) -> None:
    """One connection from where the guest comes from; the other host notices where this fails."""
    try:
        with _accept(listener, source) as connection:
            guest.incoming.let_memory_in(connection.fileno())
    except (OSError, ComputeAgentError) as error:
        LOG.warning("The memory of guest %s does not come in: %s", guest.instance_uuid, error)


def _accept(listener: socket.socket, source: str) -> socket.socket:
    """Nobody else is let in afterwards."""
    with listener:
        listener.settimeout(PATIENCE)
        while True:
            connection, peer = listener.accept()
            if peer[0] == source:
                return keep_alive(connection)
            LOG.warning("A connection from %s, where no guest comes from, is closed", peer[0])
            connection.close()
