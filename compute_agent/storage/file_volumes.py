"""Volumes that are files: on this node, or on a file system that hosts share."""

from __future__ import annotations

from pathlib import Path

from compute_agent.errors import DiskInUse, InvalidMessage, MigrationRefused, StorageError
from compute_agent.instance.block_device import BlockDevice, FileConnection, FileVolume
from compute_agent.instance.devices import FileSource
from compute_agent.storage.answers import Answers
from compute_agent.storage.contract import Progress
from compute_agent.storage.file_locks import forget_writer, noted_writer, owner_of, pass_on, require_no_other_writer
from compute_agent.storage.files import require_present, storage_errors
from compute_agent.storage.inspection import container_size, require_growth, require_self_contained, virtual_size
from compute_agent.storage.layers.chain import layers_beside, with_layers
from compute_agent.storage.network_files import why_not_written
from compute_agent.storage.qcow2.qemu_img import QemuImg
from compute_agent.storage.sameness import leave_proof, require_own_file, require_same_file, take_proof_back
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.server.exports import FileExport
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import Coming, Place, is_elsewhere, is_read_only


class FileVolumes:
    """The `compute_agent.storage.source.SharedKind` of such volumes.

    What a guest has open, and is this host's, is linked in its directory.
    """

    def __init__(self, settings: StorageSettings, qemu_img: QemuImg) -> None:
        self._settings = settings
        self._qemu_img = qemu_img
        self._answers = Answers()

    def check(self, field: str, device: BlockDevice) -> None:
        """The file must be where volumes may be; the same answer for one that is missing and one that is elsewhere."""
        path = self._named(device)
        if not self._allowed(path):
            places = ", ".join(map(str, self._settings.volume_dirs)) or "nowhere"
            raise InvalidMessage(f"{field}.connection_info.data.path", str(path), f"volumes may be in {places} only")
        if not is_read_only(device) and (reason := why_not_written(path)):
            raise InvalidMessage(f"{field}.connection_info.data.path", str(path), reason)

    def make(self, place: Place, device: BlockDevice, progress: Progress) -> None:
        """It is there already."""

    def connect(self, place: Place, device: BlockDevice) -> FileSource:
        """The file with its layers, if nobody else writes to it; another host's until `take_over`."""
        found, path = self.file(place, device), self._path(device)
        with storage_errors(path.parent):
            if not (is_read_only(device) or is_elsewhere(place)):
                self._remember(place, path)
                self._require_no_other_layers(path, device, self._owner(place))
                require_no_other_writer(path, self._owner(place))
        return found

    def _remember(self, place: Place, path: Path) -> None:
        self._link(place).unlink(missing_ok=True)
        self._link(place).symlink_to(path)

    def export(self, place: Place, device: BlockDevice) -> FileExport:
        """The same, for a block server."""
        return FileExport(name=place.name, source=self.connect(place, device))

    def _require_no_other_layers(self, path: Path, device: BlockDevice, owner: str) -> None:
        """What stands on a file is void when somebody writes to that, so it is its owner's whether or not he runs."""
        others = layers_beside(path) - set(device.layers)
        if others and (noted := noted_writer(path)) != owner:
            raise DiskInUse(f"{path} has snapshots, such as {min(others)}, of {noted}")

    def file(self, place: Place, device: BlockDevice) -> FileSource:
        """The file, if it names no other file, with its layers."""
        volume, path = _volume(device), self._path(device)
        with storage_errors(path.parent):
            require_self_contained(path, volume.format)
        return with_layers(FileSource(path=path, format=volume.format), device.layers)

    def disconnect(self, place: Place) -> None:
        """Others may have it. What is another host's has that host's name beside it by now, or will have."""
        link = self._link(place)
        if link.is_symlink():
            with storage_errors(link):
                path = link.readlink()
                self._answers.require(path)
                if not (is_elsewhere(place) or (path.parent.exists() and layers_beside(path))):
                    forget_writer(path, self._owner(place))
                link.unlink()

    def leave_proof(self, place: Place, device: BlockDevice, proof: str, *, runs: bool) -> None:
        """Beside the file. QEMU flushes what it has written when a guest leaves, unless it is told never to flush."""
        if runs and self._settings.cache_of(device) == "unsafe" and not is_read_only(device):
            raise MigrationRefused(place.name, "with the cache mode unsafe, this host could keep writes to itself")
        path = self._path(device)
        with storage_errors(path.parent):
            leave_proof(path, proof)

    def take_proof_back(self, place: Place, device: BlockDevice, proof: str) -> None:
        """Likewise."""
        path = self._path(device)
        with storage_errors(path.parent):
            take_proof_back(path, proof)

    def require_same(self, place: Place, device: BlockDevice, coming: Coming) -> None:
        """See that it is the same file, not one of the same name, and the instance's own if somebody writes to it."""
        path = self._named(device)
        if not self._allowed(path):
            raise MigrationRefused(place.name, f"{path} is not where volumes may be here")
        if not is_read_only(device) and (reason := why_not_written(path)):
            raise MigrationRefused(place.name, reason)
        path = path.resolve()
        with storage_errors(path.parent):
            require_same_file(place, path, coming)
            if not is_read_only(device):
                require_own_file(place, path, coming)

    def take_over(self, place: Place, device: BlockDevice) -> None:
        """The note beside it names this host."""
        path = self._path(device)
        if is_read_only(device):
            return
        with storage_errors(path.parent):
            self._remember(place, path)
            pass_on(path, self._owner(place))

    def size(self, place: Place, device: BlockDevice) -> int:
        """As the file, or its header, has it."""
        source = self.file(place, device)
        return virtual_size(source.path, source.format)

    def check_growth(self, place: Place, device: BlockDevice, size: int) -> None:
        """No disk is cut off."""
        require_growth(self._guests_size(place, device), size)

    def grow(self, place: Place, device: BlockDevice, size: int, *, running: bool) -> None:
        """A running guest's QEMU grows the file itself."""
        source, found = self.file(place, device), self._guests_size(place, device)
        require_growth(found, size)
        if found < size and not running:
            passphrase = passphrase_of(device, self._settings.rbd.ceph.secret_dir)
            self._qemu_img.resize(source.path, size, source.format, passphrase)

    def _guests_size(self, place: Place, device: BlockDevice) -> int:
        source = self.file(place, device)
        is_container = device.encryption is not None and source.format == "raw"
        return container_size(source.path) if is_container else virtual_size(source.path, source.format)

    def delete(self, place: Place) -> None:
        """The volume stays."""
        self.disconnect(place)

    def _named(self, device: BlockDevice) -> Path:
        """The path as it was ordered.

        :raises StorageError: its file system does not answer.
        """
        path = Path(_volume(device).path)
        self._answers.require(path)
        return path

    def _allowed(self, path: Path) -> bool:
        try:
            resolved = path.resolve()
            return any(resolved.is_relative_to(directory.resolve()) for directory in self._settings.volume_dirs)
        except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
            return False

    def _path(self, device: BlockDevice) -> Path:
        """Resolved again, because a link may have been changed since it was checked."""
        path = self._named(device)
        if not self._allowed(path):
            raise StorageError(f"{path} is not where volumes may be any more")
        return require_present(path.resolve())

    def _link(self, place: Place) -> Path:
        return place.directory / f"{place.name}.volume"

    def _owner(self, place: Place) -> str:
        return owner_of(self._settings.host, place.instance_uuid)


def _volume(device: BlockDevice) -> FileVolume:
    assert isinstance(device.connection_info, FileConnection)
    return device.connection_info.data
