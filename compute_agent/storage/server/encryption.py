"""What a block server sends to another host, or takes from one, is encrypted with a key that it has in its memory."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from compute_agent.block.keys import CREDENTIALS, KEY_FILES, Endpoint, credentials, key_files
from compute_agent.errors import StorageError
from compute_agent.host.confinement.room import SOCKET_DIRECTORY
from compute_agent.storage.server.connections import open_directory
from compute_agent.storage.server.server import BlockServer


def use_key(server: BlockServer, key: str, endpoint: Endpoint) -> None:
    """What is told to use `CREDENTIALS` from now on is encrypted with this key.

    :raises StorageError: the server refuses, or has ended.
    """
    forget_key(server)
    with ExitStack() as opened:
        directory = open_directory(opened, server.process)
        for name, content in key_files(key).items():
            _write(directory, name, content, server.paths.owner)
    server.control.execute("object-add", credentials(SOCKET_DIRECTORY, endpoint))


def forget_key(server: BlockServer) -> None:
    """Nothing is encrypted any more, and nobody uses it. Nothing happens where there is none."""
    with suppress(StorageError):  # there is none
        server.control.execute("object-del", {"id": CREDENTIALS})
    with ExitStack() as opened:
        directory = open_directory(opened, server.process)
        for name in KEY_FILES:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)


def _write(directory: int, name: str, content: str, owner: int) -> None:
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400, dir_fd=directory)
        with os.fdopen(fd, "w") as file:
            file.write(content)
            os.fchown(fd, owner, -1)
    except OSError as error:
        raise StorageError(f"the key of a migration cannot be written: {error}") from error
