"""The node's secrets: keys of clusters and passphrases of disks, each in a file called after its uuid.

Whoever needs one reads it anew and keeps it no longer than he must: it is never journaled, logged or shown.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.wire import UUID_PATTERN


def read_secret(field: str, secret_uuid: str, directory: Path) -> str:
    """The content of the secret's file, without blanks around it; `field` is where the message names it.

    :raises InvalidMessage: of `field`: this node has no such secret.
    :raises StorageError: a file that cannot be read, or that others could have read or written.
    """
    if not re.fullmatch(UUID_PATTERN, secret_uuid):  # it could be a path to somewhere else
        raise InvalidMessage(field, secret_uuid, "is not a uuid")
    path = directory / secret_uuid
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
                raise StorageError(f"{path} must belong to root and be closed to others (chown root, chmod 600)")
            return file.read().strip()
    except FileNotFoundError:
        raise InvalidMessage(field, secret_uuid, f"there is no {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error


def passphrase_of(device: BlockDevice, directory: Path, field: str = "block_device") -> str | None:
    """What opens the disk's LUKS container, where it is one; as `read_secret`."""
    if device.encryption is None:
        return None
    return read_secret(f"{field}.encryption.secret_uuid", device.encryption.secret_uuid, directory)


@contextmanager
def readable_once(secret: str) -> Iterator[int]:
    """A pipe to read it from, once: others can see a process's command line and environment, but not this."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "w") as file:
            file.write(secret)
        yield reader
    finally:
        os.close(reader)
