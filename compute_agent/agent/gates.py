"""Where a guest of another host comes in: sockets that this agent opens, and hands to a process without a network."""

from __future__ import annotations

import logging
import secrets
import select
import socket
from collections.abc import Callable, Sequence
from threading import Thread

from compute_agent.agent.arrivals import awaits_files, require_incoming, rest_of
from compute_agent.agent.node import Node
from compute_agent.agent.settings import AgentSettings
from compute_agent.errors import ComputeAgentError
from compute_agent.host.encryption import SealedServer
from compute_agent.host.listening import keep_alive, listen_on, resolve
from compute_agent.instance.migration import Gate, Incoming
from compute_agent.instance.model import Instance
from compute_agent.virt.contract import Guest

LOG = logging.getLogger(__name__)

Take = Callable[[socket.socket], None]
"""Gets a connection, which is closed afterwards."""

PATIENCE = 60.0
"""Seconds that a gate stays open for memory."""
_KEY_SIZE = 32
"""Bytes."""
_TAKEN = b"."


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
    key = secrets.token_hex(_KEY_SIZE) if node.settings.migration.encrypt else None
    record, files = node.journal.instance(instance_uuid).record, node.storage.moves.files
    if record.incoming is None:
        return _open_for_rest(node, node.guest(instance_uuid), rest_of(node, instance_uuid, migration), key)
    incoming, instance = require_incoming(node, instance_uuid, migration), record.instance
    if incoming.is_stopped:
        return _open_for_files(node, instance, files.all_of(instance, incoming.mirrored), incoming, key)
    if awaits_files(node, instance, incoming):
        return _open_for_files(node, instance, files.lower_of(instance, incoming.mirrored), incoming, key)
    return _open(node, node.guest(instance_uuid), incoming, key)


def _open_for_files(node: Node, instance: Instance, files: Sequence[str], incoming: Incoming, key: str | None) -> Gate:
    """They come in one after the other, over one connection."""
    address, server = migration_address(node.settings), SealedServer(key) if key else None

    def receive(connection: socket.socket) -> None:
        with server.accept(connection) if server else connection as one:
            node.storage.moves.files.receive(instance, files, one)

    port = _wait_at(_listen(node, address), incoming, instance.uuid, receive)
    return Gate(address=address, disks_port=port, key=key, certificate=server.certificate if server else None)


def _open(node: Node, guest: Guest, incoming: Incoming, key: str | None) -> Gate:
    address, disks_port = migration_address(node.settings), None
    guest.incoming.use_key(key)
    if incoming.mirrored:
        disks_port = _let_disks_in(node, guest, incoming.mirrored, key)

    def let_memory_in(connection: socket.socket) -> None:
        keep_alive(connection, patient=True)  # the guest may run here, and wait for what comes
        guest.incoming.let_memory_in(connection.fileno())

    memory_port = _wait_at(_listen(node, address), incoming, guest.instance_uuid, let_memory_in)
    return Gate(address=address, memory_port=memory_port, disks_port=disks_port, key=key)


def _let_disks_in(node: Node, guest: Guest, disks: Sequence[str], key: str | None) -> int:
    """The port. A block server has a network, and listens by itself."""
    settings, address = node.settings.migration, migration_address(node.settings)
    served = node.storage.moves.served(guest.instance_uuid)
    if served is not None:
        return served.let_in(disks, address, range(settings.first_port, settings.last_port + 1), key)
    with _listen(node, address) as listener:
        guest.incoming.let_disks_in(listener.fileno(), disks)
        return int(listener.getsockname()[1])


def _open_for_rest(node: Node, guest: Guest, incoming: Incoming, key: str | None) -> Gate:
    """The process gets the connection, then the other host is told so, and only when its process sends is it read.

    QEMU 7.2 survives neither end being closed while the two agree how to go on: so no agent has to be there meanwhile.
    """
    address = migration_address(node.settings)

    def let_rest_in(connection: socket.socket) -> None:
        keep_alive(connection, patient=True)
        guest.incoming.take_connection(connection.fileno())
        connection.sendall(_TAKEN)
        if _is_sent_over(connection):
            guest.incoming.fetch_rest()
        else:
            guest.incoming.drop_connection()

    guest.incoming.use_key(key)
    port = _wait_at(_listen(node, address), incoming, guest.instance_uuid, let_rest_in)
    return Gate(address=address, memory_port=port, key=key)


def _is_sent_over(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000) and connection.recv(1, socket.MSG_PEEK))


def _wait_at(listener: socket.socket, incoming: Incoming, instance_uuid: str, take: Take) -> int:
    """The port where one connection from the other host is waited for, which goes to `take`."""
    port = int(listener.getsockname()[1])
    arguments = (listener, resolve(incoming.address), instance_uuid, take)
    Thread(target=_let_in, args=arguments, daemon=True).start()
    return port


def _listen(node: Node, address: str) -> socket.socket:
    settings = node.settings.migration
    return listen_on(address, settings.first_port, settings.last_port)


def _let_in(listener: socket.socket, source: str, instance_uuid: str, take: Take) -> None:
    """One connection from where the guest comes from; the other host notices where this fails."""
    try:
        with _accept(listener, source) as connection:
            take(connection)
    except (OSError, ComputeAgentError) as error:
        LOG.warning("Guest %s does not come in: %s", instance_uuid, error)


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
