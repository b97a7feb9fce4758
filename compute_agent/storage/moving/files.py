"""Disks in local files, sent to another host and received from one::

disk0.qcow2                the instance's; on the host that it comes to, one that was made there
disk0.arrived.<id>.part    coming in
disk0.arrived              complete, and standing on that host's own copy of the image
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.host.durable import publish
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.files import PART_SUFFIX, require_space
from compute_agent.storage.moving.contract import Progress
from compute_agent.storage.moving.stream import (
    SILENCE,
    FileHead,
    confirm,
    finish_sending,
    pacer,
    receive_file,
    receive_head,
    send_file,
    size_taken,
)
from compute_agent.storage.qcow2.qemu_img import QemuImg

_ARRIVED = ".arrived"


class MovingFiles:
    """The `compute_agent.storage.moving.contract.FileMoves` of this node."""

    def __init__(self, disks: CopiedDisks, qemu_img: QemuImg, reserved_space: int) -> None:
        self._disks = disks
        self._qemu_img = qemu_img
        self._reserved_space = reserved_space

    def send(
        self, instance: Instance, disks: Sequence[str], connection: socket.socket, bandwidth: int, progress: Progress
    ) -> None:
        """See the contract."""
        files = {disk: self._file(instance, disk).path for disk in disks}
        total, done = sum(map(size_taken, files.values())), 0

        def count(sent: int) -> None:
            nonlocal done
            done += sent
            progress(min(99, done * 100 // max(total, 1)))

        with _other_host(connection):
            paced = pacer(bandwidth, count)
            for disk, path in files.items():
                send_file(connection, disk, path, paced)
            finish_sending(connection)

    def receive(self, instance: Instance, disks: Sequence[str], connection: socket.socket) -> None:
        """See the contract. One that comes again, by another connection, replaces what has come."""
        with _other_host(connection):
            while (head := receive_head(connection)).disk is not None:
                if head.disk not in disks:
                    raise StorageError(f"{head.disk} is none of the disks that should come")
                self._receive(instance, head.disk, head, connection)
            if not self.has_all(instance, disks):
                raise StorageError("not all disks have come in")
            confirm(connection)

    def has_all(self, instance: Instance, disks: Sequence[str]) -> bool:
        """See the contract."""
        return all(self._arrived(instance, disk).exists() for disk in disks)

    def take(self, instance: Instance) -> None:
        """See the contract. A rename each; a disk that has been renamed before stays."""
        for device in instance.block_devices:
            arrived = self._arrived(instance, str(device.device_name))
            if arrived.exists():
                publish(arrived, arrived.with_suffix(".qcow2"))
            for part in arrived.parent.glob(f"{arrived.name}.*{PART_SUFFIX}"):
                part.unlink()

    def _receive(self, instance: Instance, disk: str, head: FileHead, connection: socket.socket) -> None:
        made, arrived = self._file(instance, disk), self._arrived(instance, disk)
        require_space(arrived.parent, head.taken, self._reserved_space)
        part = arrived.with_name(f"{arrived.name}.{uuid.uuid4()}{PART_SUFFIX}")
        try:
            receive_file(connection, head, part)
            if made.backing is not None:
                self._qemu_img.stand_on(part, (made.backing.path, made.backing.format))
            if problem := self._qemu_img.check(part):
                raise StorageError(f"{disk} is not what it should be: {problem}")
            publish(part, arrived)
        finally:
            part.unlink(missing_ok=True)

    def _file(self, instance: Instance, disk: str) -> FileSource:
        device = find_device(instance, disk)
        file = None if device is None else self._disks.file(instance, device)
        if file is None:
            raise StorageError(f"{disk} is in no local file")
        return file

    def _arrived(self, instance: Instance, disk: str) -> Path:
        return self._disks.place_of(instance, disk).directory / f"{disk}{_ARRIVED}"


@contextmanager
def _other_host(connection: socket.socket) -> Iterator[None]:
    connection.settimeout(SILENCE)
    try:
        yield
    except OSError as error:
        raise StorageError(f"a disk could not be moved: {error.strerror or error}") from error
