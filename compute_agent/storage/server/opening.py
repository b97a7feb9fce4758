"""A block server opens an image: the nodes of an export, from the bottom up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from compute_agent.errors import StorageError
from compute_agent.instance.devices import FileSource
from compute_agent.storage.rbd.credentials import Credentials
from compute_agent.storage.server.admission import Admissions
from compute_agent.storage.server.control import Control
from compute_agent.storage.server.exports import Export, FileExport, RbdExport
from compute_agent.storage.server.graph import (
    SECRET,
    Node,
    decrypting,
    file_node,
    format_node,
    limiting_node,
    rbd_node,
)
from compute_agent.storage.server.lending import in_memory
from compute_agent.storage.server.names import content_name, file_name, storage_name
from compute_agent.storage.server.paths import ServerPaths
from compute_agent.storage.server.throttling import set_limits

_CONNECTED_WITHIN = 5
"""Seconds that a cluster gets to answer. The server does nothing else meanwhile: in QEMU 7.2 an NBD export in a thread
of its own ends the process when its client hangs up (an assertion). So ask the cluster before, by other means."""
_SILENT = "".join(f"debug_{subsystem} = 0/0\n" for subsystem in ("rbd", "rados", "objecter"))
"""Else each request notes what it does in memory, for a log that is nowhere: a sixth of the server's task switches."""
_CLIENT_OPTIONS = f"client_mount_timeout = {_CONNECTED_WITHIN}\nlog_file =\nadmin_socket =\n{_SILENT}"


class Opening:
    """Of images, in one server."""

    def __init__(self, control: Control, paths: ServerPaths, admissions: Admissions) -> None:
        self._control = control
        self._paths = paths
        self._admissions = admissions

    def open(self, name: str, export: Export) -> None:
        """Make node `name`, which an export can stand on.

        :raises StorageError: it cannot be opened; some nodes may be there.
        """
        try:
            if export.transport == "nbd":
                self._open_content(name, name, export)
            else:
                content = file_name(name, export.source, 0) if isinstance(export, FileExport) else content_name(name, 0)
                self._open_content(name, content, export)
                set_limits(self._control, export.name, export.qos)
                self._control.open_node(limiting_node(name, export, content))
        except OSError as error:
            raise StorageError(f"{export.name} cannot be served: {error}") from error

    def open_file(self, node: str, export: FileExport) -> None:
        """Make `node` of a file by itself, to be written to; what it stands on stays closed. Raises as `open`."""
        try:
            self._open_file(storage_name(node), export, export.source.path, read_only=False)
            self._control.open_node(format_node(node, export, export.source.format, backing=None, read_only=False))
        except OSError as error:
            raise StorageError(f"{export.source.path} cannot be opened: {error.strerror}") from error

    def _open_content(self, name: str, content: str, export: Export) -> None:
        if isinstance(export, FileExport):
            self._open_files(name, content, export)
        elif isinstance(export, RbdExport):
            if export.passphrase is None:
                self._open_rbd(content, export)
            else:
                self._open_rbd(storage_name(content), export)
                container = format_node(content, export, "raw", backing=None, read_only=export.read_only)
                self._open_in_the_clear(container, export)

    def _open_rbd(self, node: str, export: RbdExport) -> None:
        with (
            self._secret(export.credentials.key.encode(), "base64"),
            in_memory(_configuration(export.credentials)) as conf,
        ):
            self._control.open_node(rbd_node(node, export, conf=self._control.lend(conf), secret=SECRET))

    def _open_files(self, name: str, content: str, export: FileExport) -> None:
        """A layer's end makes what it stands on written to again, and a server has no way to open it anew for that."""
        backing, chain = None, list(_chain(export.source))
        layers = sum(source.layer is not None for source in chain)
        for depth, source in reversed(list(enumerate(chain))):
            node, read_only = (file_name(name, source, depth - layers), True) if depth else (content, export.read_only)
            is_image = depth > layers
            self._open_file(storage_name(node), export, source.path, read_only=is_image or export.read_only)
            meaning = format_node(node, export, source.format, backing=backing, read_only=read_only)
            if depth:
                self._control.open_node(meaning)
            else:
                self._open_in_the_clear(meaning, export)
            backing = node

    def _open_file(self, node: str, export: FileExport, path: Path, *, read_only: bool) -> None:
        fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        try:
            with self._admissions.admitted(self._paths, path, fd, read_only=read_only):
                lent = self._control.lend(fd)
                self._control.open_node(file_node(node, export, path=lent, read_only=read_only))
        finally:
            os.close(fd)

    def _open_in_the_clear(self, node: Node, export: Export) -> None:
        if export.passphrase is None:
            self._control.open_node(node)
        else:
            with self._secret(export.passphrase, "raw"):
                self._control.open_node(decrypting(node, secret=SECRET))

    @contextmanager
    def _secret(self, secret: bytes, format: Literal["raw", "base64"]) -> Iterator[None]:
        """It goes the way of a file: into the server's memory, and into no message. At the end it is forgotten."""
        self._forget_secret()
        try:
            with in_memory(secret) as fd:
                described = {"qom-type": "secret", "id": SECRET, "format": format, "file": self._control.lend(fd)}
                self._control.execute("object-add", described)
            yield
        finally:
            self._forget_secret()

    def _forget_secret(self) -> None:
        with suppress(StorageError):  # there is none
            self._control.execute("object-del", {"id": SECRET})


def _chain(source: FileSource | None) -> Iterator[FileSource]:
    """A file, and what it stands on."""
    while source is not None:
        yield source
        source = source.backing


def _configuration(credentials: Credentials) -> bytes:
    monitors = f"mon_host = {credentials.monitors}\n" if credentials.monitors else ""
    return credentials.conf.read_bytes() + f"\n[client]\n{monitors}{_CLIENT_OPTIONS}".encode()
