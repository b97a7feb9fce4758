"""Disks of one instance whose hypervisor opens none: its block server has them all, and does all that was ordered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import FileSource, VhostUserSource
from compute_agent.instance.model import Instance
from compute_agent.storage.secrets import passphrase_of
from compute_agent.storage.server.exports import Export, FileExport
from compute_agent.storage.server.moments import Room
from compute_agent.storage.server.served_disks import ServedDisks
from compute_agent.storage.server.servers import BlockServers
from compute_agent.storage.settings import StorageSettings
from compute_agent.storage.source import is_read_only


class Serving:
    """Raises as `BlockServers`. Each may be repeated after a crash."""

    def __init__(self, instance: Instance, servers: BlockServers, settings: StorageSettings) -> None:
        self._instance = instance
        self._servers = servers
        self._settings = settings

    def connect(self, export: Export, device: BlockDevice) -> VhostUserSource:
        """A disk that the server opens as `export` says, if it does not serve it already."""
        export = self._as_ordered(export, device)
        if isinstance(export, FileExport):
            export = replace(export, aio=self._settings.aio_with(export.cache))
        return self._connect(export)

    def connect_read_only(self, name: str, source: FileSource) -> VhostUserSource:
        """A file that is no disk of the order."""
        return self._connect(FileExport(name=name, source=source, read_only=True, transport="vhost-user-blk"))

    def grow(self, device: BlockDevice, size: int) -> None:
        """It has `size` bytes from now on; who is connected does not hear of it."""
        self._servers.resize(self._instance.uuid, self._without_content(device), size)

    def find_served_disks(self, directory: Path) -> ServedDisks | None:
        """As `BlockServers.find_served_disks`; what copies need meanwhile is in `directory`."""
        room = Room(directory, self._settings.reserved_space)
        return self._servers.find_served_disks(self._instance.uuid, self._export_of, room)

    def _export_of(self, name: str) -> Export:
        device = find_device(self._instance, name)
        assert device is not None
        return self._without_content(device)

    def _connect(self, export: Export) -> VhostUserSource:
        self._servers.add(self._instance.uuid, export, self._instance.flavor.memory_mb * 1024**2)
        return self._servers.connect_vhost_user(self._instance.uuid, export.name)

    def _without_content(self, device: BlockDevice) -> Export:
        """As the server knows a disk that it has open."""
        return self._as_ordered(Export(name=str(device.device_name)), device)

    def _as_ordered(self, export: Export, device: BlockDevice) -> Export:
        passphrase = passphrase_of(device, self._settings.rbd.ceph.secret_dir)
        return replace(
            export,
            transport="vhost-user-blk",
            read_only=is_read_only(device),
            cache=self._settings.cache_of(device),
            discard=device.discard,
            detect_zeroes=device.detect_zeroes,
            passphrase=passphrase.encode() if passphrase else None,
            # One thread serves them all, but a guest's CPUs wait for no lock and get their own interrupts.
            queues=device.queues or self._instance.flavor.vcpus,
            qos=device.qos,
        )
