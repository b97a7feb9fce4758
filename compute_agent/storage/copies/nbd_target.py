"""Backups on an NBD server somewhere: an export for each disk, which is there, and as large as the disk.

An incremental backup goes to exports that hold its parent: those of the parent itself, or copies of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from compute_agent.errors import InvalidMessage, StorageError
from compute_agent.host.connecting import connect_over_network
from compute_agent.instance.copies import Backup, DiskBackup
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.wire import END
from compute_agent.storage.copies.contract import CopyOrder
from compute_agent.storage.copies.places import DESCRIPTION, Places, read_description, write_description
from compute_agent.storage.qcow2.copying import CopyingQemuImg

_URL = re.compile(r"nbd://(?P<host>\[[0-9a-f:]+\]|[^/:\s\[\]]+)(:(?P<port>[0-9]{1,5}))?/(?P<prefix>[^\s]{1,200})" + END)
_PORT = 10809


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    prefix: str


class NbdTarget:
    """The `compute_agent.storage.copies.target.CopyTarget` of them."""

    is_zero = False

    def __init__(self, places: Places, qemu_img: CopyingQemuImg) -> None:
        """`qemu_img` asks servers; a connection may take as long as a run of it."""
        self._places = places
        self._qemu_img = qemu_img

    def check(self, order: CopyOrder, sizes: Mapping[str, int], taken: int) -> None:
        """All exports have to be there, and to fit; of what is in them only the parent's description tells."""
        server = _server(str(order.target))
        for disk, size in sizes.items():
            if order.parent is not None and disk not in self._disks(order.parent):
                raise InvalidMessage("parent", order.parent, f"there is no such backup of {disk} on an NBD server")
            found = self._size(str(order.target), disk)
            if found != size:
                reason = f"its export {server.prefix}{disk} has {found} bytes, and the disk has {size}"
                raise InvalidMessage("target", order.target, reason)

    def make(self, order: CopyOrder, sizes: Mapping[str, int]) -> None:
        """Of backups that went to the same exports before there is nothing left, from now on."""
        for directory in self._places.all_backups():
            former = read_description(directory / DESCRIPTION, Backup)
            if (
                former is not None
                and former.target == order.target
                and sizes.keys() & {one.name for one in former.disks}
            ):
                overwritten = msgspec.structs.replace(former, overwritten_by=order.copy_id)
                write_description(directory / DESCRIPTION, overwritten)

    def open(self, order: CopyOrder, disk: str) -> NbdSource:
        """Whoever gets the connection does not notice that it is none to a block server."""
        return self._connect(str(order.target), disk)

    def complete(self, order: CopyOrder, disk: str) -> DiskBackup:
        """What the server does to keep it is its own affair; it has been told to flush."""
        size = self._size(str(order.target), disk)
        return DiskBackup(name=disk, size=size, virtual_size=size)

    @contextmanager
    def reading(self, instance_uuid: str, backup: Backup, disk: str) -> Iterator[NbdSource]:
        """The export, if nothing later is in it."""
        if backup.overwritten_by is not None:
            reason = f"backup {backup.overwritten_by} went to the same exports"
            raise InvalidMessage("backup_id", backup.backup_id, reason)
        source = self._connect(str(backup.target), disk)
        try:
            yield source
        finally:
            source.close()

    def _size(self, target: str, disk: str) -> int:
        source = self._connect(target, disk)
        try:
            return self._qemu_img.size(source)
        except StorageError as error:
            server = _server(target)
            raise InvalidMessage("target", target, f"export {server.prefix}{disk}: {error}") from error
        finally:
            source.close()

    def _connect(self, target: str, disk: str) -> NbdSource:
        server = _server(target)
        try:
            fd = connect_over_network(server.host, server.port, self._qemu_img.timeout)
        except OSError as error:
            raise StorageError(f"target {target}: {error.strerror or error}") from error
        return NbdSource(export=f"{server.prefix}{disk}", fd=fd)

    def _disks(self, backup_id: str) -> set[str]:
        """Those that a backup on a server has."""
        found = read_description(self._places.backup(backup_id) / DESCRIPTION, Backup)
        return {disk.name for disk in found.disks} if found is not None and found.is_on_nbd_server else set()


def _server(target: str) -> _Server:
    found = _URL.match(target)
    if found is None or not 0 < int(found["port"] or _PORT) < 1 << 16:
        raise InvalidMessage("target", target, "is not nbd://HOST:PORT/PREFIX")
    return _Server(found["host"].strip("[]"), int(found["port"] or _PORT), found["prefix"])
