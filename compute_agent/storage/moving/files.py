"""Disks in local files, sent to another host and received from one::

disk0.qcow2                the instance's; on the host that it comes to, one that was made there
disk0.arrived.<id>.part    coming in
disk0.arrived              complete, and standing on that host's own copy of the image

Likewise of each snapshot's overlay: disk0.qcow2.<snapshot>, disk0.<snapshot>.arrived.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import StorageError
from compute_agent.host.durable import PART_SUFFIX, publish
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.copies.disks import CopiedDisks
from compute_agent.storage.files import require_space
from compute_agent.storage.layers.chain import layer_path
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
from compute_agent.storage.secrets import passphrase_of

_ARRIVED = ".arrived"


class MovingFiles:
    """The `compute_agent.storage.moving.contract.FileMoves` of this node."""

    def __init__(self, disks: CopiedDisks, qemu_img: QemuImg, reserved_space: int, secret_dir: Path) -> None:
        """`secret_dir`: where the passphrases of encrypted disks are, which go as they are and are only opened here."""
        self._secret_dir = secret_dir
        self._disks = disks
        self._qemu_img = qemu_img
        self._reserved_space = reserved_space

    def all_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        """See the contract."""
        return [name for disk in disks for name in _names(_device(instance, disk))]

    def lower_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        """See the contract."""
        return [name for disk in disks for name in _names(_device(instance, disk))[:-1]]

    def send(
        self, instance: Instance, files: Sequence[str], connection: socket.socket, bandwidth: int, progress: Progress
    ) -> None:
        """See the contract."""
        paths = {file: self._file(instance, file).path for file in files}
        total, done = sum(map(size_taken, paths.values())), 0

        def count(sent: int) -> None:
            nonlocal done
            done += sent
            progress(min(99, done * 100 // max(total, 1)))

        with _other_host(connection):
            paced = pacer(bandwidth, count)
            for file, path in paths.items():
                send_file(connection, file, path, paced)
            finish_sending(connection)

    def receive(self, instance: Instance, files: Sequence[str], connection: socket.socket) -> None:
        """See the contract. One that comes again, by another connection, replaces what has come."""
        with _other_host(connection):
            while (head := receive_head(connection)).disk is not None:
                if head.disk not in files:
                    raise StorageError(f"{head.disk} is none of the disks that should come")
                self._receive(instance, head.disk, head, connection)
            if not self.has_all(instance, files):
                raise StorageError("not all disks have come in")
            confirm(connection)

    def has_all(self, instance: Instance, files: Sequence[str]) -> bool:
        """See the contract."""
        return all(self._arrived(instance, file).exists() for file in files)

    def take(self, instance: Instance) -> None:
        """See the contract. A rename each; a file that has been renamed before stays."""
        for device in instance.block_devices:
            for file in _names(device):
                self._take(instance, file)

    def _take(self, instance: Instance, file: str) -> None:
        arrived = self._arrived(instance, file)
        if arrived.exists():
            disk, _, layer = file.partition(".")
            first = arrived.with_name(f"{disk}.qcow2")
            publish(arrived, layer_path(first, layer) if layer else first)
        for part in arrived.parent.glob(f"{arrived.name}.*{PART_SUFFIX}"):
            part.unlink()

    def _receive(self, instance: Instance, file: str, head: FileHead, connection: socket.socket) -> None:
        made, arrived = self._file(instance, file), self._arrived(instance, file)
        passphrase = passphrase_of(_device(instance, file.partition(".")[0]), self._secret_dir)
        require_space(arrived.parent, head.taken, self._reserved_space)
        part = arrived.with_name(f"{arrived.name}.{uuid.uuid4()}{PART_SUFFIX}")
        try:
            receive_file(connection, head, part)
            if made.backing is not None:
                self._qemu_img.stand_on(part, (made.backing.path, made.backing.format), passphrase)
            if problem := self._qemu_img.check(part, passphrase):
                raise StorageError(f"{file} is not what it should be: {problem}")
            publish(part, arrived)
        finally:
            part.unlink(missing_ok=True)

    def _file(self, instance: Instance, file: str) -> FileSource:
        disk, _, layer = file.partition(".")
        source = self._disks.file(instance, _device(instance, disk))
        while source is not None and source.layer != (layer or None):
            source = source.backing
        if source is None:
            raise StorageError(f"{file} is in no local file")
        return source

    def _arrived(self, instance: Instance, file: str) -> Path:
        disk = file.partition(".")[0]
        return self._disks.place_of(instance, disk).directory / f"{file}{_ARRIVED}"


def _device(instance: Instance, disk: str) -> BlockDevice:
    device = find_device(instance, disk)
    if device is None:
        raise StorageError(f"the instance has no {disk}")
    return device


def _names(device: BlockDevice) -> list[str]:
    """Of its files, the first one first."""
    return [str(device.device_name), *(f"{device.device_name}.{layer}" for layer in device.layers)]


@contextmanager
def _other_host(connection: socket.socket) -> Iterator[None]:
    connection.settimeout(SILENCE)
    try:
        yield
    except OSError as error:
        raise StorageError(f"a disk could not be moved: {error.strerror or error}") from error
