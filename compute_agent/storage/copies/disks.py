"""The disks of instances, as those see them who copy them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import FileSource, NbdSource
from compute_agent.instance.model import Instance
from compute_agent.storage.source import DiskKind, Place

KindOf = Callable[[BlockDevice], DiskKind]


class CopiedDisks:
    """Of this node."""

    def __init__(self, disk_dir: Path, kind_of: KindOf) -> None:
        self._disk_dir = disk_dir
        self._kind_of = kind_of

    def place(self, instance: Instance, device: BlockDevice) -> Place:
        """Where it is remembered."""
        return self.place_of(instance, str(device.device_name))

    def place_of(self, instance: Instance, name: str) -> Place:
        """The same, for a disk of this name."""
        return Place(instance_uuid=instance.uuid, directory=self._disk_dir / instance.uuid, name=name)

    def size(self, instance: Instance, device: BlockDevice) -> int:
        """Bytes that a copy of it has."""
        return self._kind_of(device).size(self.place(instance, device), device)

    def file(self, instance: Instance, device: BlockDevice) -> FileSource | None:
        """The local file; None: it is in Ceph."""
        return self._kind_of(device).file(self.place(instance, device), device)

    @contextmanager
    def reading(self, instance: Instance, device: BlockDevice) -> Iterator[FileSource | NbdSource]:
        """Something to copy it from, while its instance does not run."""
        kind, place = self._kind_of(device), self.place(instance, device)
        source = kind.connect(place, device)
        try:
            yield source
        finally:
            if isinstance(source, NbdSource):
                source.close()
            kind.disconnect(place)

    def let_go(self, instance: Instance, device: BlockDevice) -> None:
        """Of what an agent that was killed was reading, while its instance did not run."""
        self._kind_of(device).disconnect(self.place(instance, device))
