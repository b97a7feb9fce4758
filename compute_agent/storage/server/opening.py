"""A block server opens an image: the nodes of an export, from the bottom up."""

from __future__ import annotations

import os
from contextlib import suppress

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.credentials import Credentials
from compute_agent.storage.server.control import Control
from compute_agent.storage.server.exports import Export, FileExport, RbdExport
from compute_agent.storage.server.graph import file_node, format_node, rbd_node
from compute_agent.storage.server.lending import in_memory

_SECRET = "key"
_CONNECTED_WITHIN = 5
"""Seconds that a cluster gets to answer. The server does nothing else meanwhile: in QEMU 7.2 an NBD export in a thread
of its own ends the process when its client hangs up (an assertion). So ask the cluster before, by other means."""
_SILENT = "".join(f"debug_{subsystem} = 0/0\n" for subsystem in ("rbd", "rados", "objecter"))
"""Else each request notes what it does in memory, for a log that is nowhere: a sixth of the server's task switches."""
_CLIENT_OPTIONS = f"client_mount_timeout = {_CONNECTED_WITHIN}\nlog_file =\nadmin_socket =\n{_SILENT}"
_READABLE = 0o004


def open_image(control: Control, name: str, export: Export, uid: int) -> None:
    """Make node `name`, which an export can stand on, in the server of user `uid`.

    :raises StorageError: it cannot be opened; some nodes may be there.
    """
    try:
        if isinstance(export, RbdExport):
            _open_rbd(control, name, export)
        elif isinstance(export, FileExport):
            _open_file(control, name, export, export.source, uid=None if export.read_only else uid)
    except OSError as error:
        raise StorageError(f"{export.name} cannot be served: {error}") from error


def _open_rbd(control: Control, name: str, export: RbdExport) -> None:
    """The key goes the way of a file: into the server's memory, and into no message. Then the secret is forgotten."""
    _forget_secret(control)
    with in_memory(export.credentials.key.encode()) as key:
        secret = {"qom-type": "secret", "id": _SECRET, "format": "base64"}
        control.execute("object-add", {**secret, "file": control.lend(key)})
    try:
        with in_memory(_configuration(export.credentials)) as conf:
            control.open_node(rbd_node(name, export, conf=control.lend(conf), secret=_SECRET))
    finally:
        _forget_secret(control)


def _configuration(credentials: Credentials) -> bytes:
    monitors = f"mon_host = {credentials.monitors}\n" if credentials.monitors else ""
    return credentials.conf.read_bytes() + f"\n[client]\n{monitors}{_CLIENT_OPTIONS}".encode()


def _forget_secret(control: Control) -> None:
    with suppress(StorageError):  # there is none
        control.execute("object-del", {"id": _SECRET})


def _open_file(control: Control, name: str, export: Export, source: FileSource, uid: int | None) -> None:
    """`uid`: the server's user, if it may write."""
    if source.backing is not None:
        _open_file(control, f"{name}-base", export, source.backing, uid=None)
    read_only = uid is None
    fd = os.open(source.path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    try:
        _admit(fd, uid)
        control.open_node(file_node(f"{name}-file", export, path=control.lend(fd), read_only=read_only))
    finally:
        os.close(fd)
    backing = f"{name}-base" if source.backing else None
    control.open_node(format_node(name, export, source.format, backing=backing, read_only=read_only))


def _admit(fd: int, uid: int | None) -> None:
    """Let the server's user open the file: for writing as its owner, for reading as anybody who has found it."""
    if uid is None:
        os.fchmod(fd, os.fstat(fd).st_mode & 0o7777 | _READABLE)
    else:
        os.fchown(fd, uid, -1)
