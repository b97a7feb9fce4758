"""Layers of a disk in `tests.unit.agent.world`: files, and a guest that writes all the time to one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.model import Instance

if TYPE_CHECKING:
    from tests.unit.agent.world import World

FIRST = ""
"""The disk's first file, in the place of a layer."""


@dataclass
class Layering:
    """What is really there of one disk."""

    files: set[str] = field(default_factory=set)
    writes_to: str = FIRST
    """The guest."""
    whole: set[str] = field(default_factory=lambda: {FIRST})
    """Each of these has all that was ever written, with what it stands on: a guest that starts has to get one."""
    holding: set[str] = field(default_factory=set)
    """Those that something has been written to; through the others one sees the disk's first file."""
    is_held: bool = False
    """What the guest writes waits for a commit's end."""

    def write(self) -> None:
        """The guest does."""
        if not self.is_held:
            self.holding.add(self.writes_to)
            self.whole = {self.writes_to} | (self.files - self.holding if self.writes_to == FIRST else set())

    def power_failure(self) -> None:
        """No guest any more, and no job."""
        self.is_held = False


class FakeLayers:
    """Keeps `compute_agent.block.layers.DiskLayers` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add(self, disk: Disk) -> None:
        layering = self._world.layering
        assert isinstance(disk.source, FileSource) and disk.source.layer is not None
        layer = disk.source.layer

        def effect() -> None:
            layering.writes_to = layer

        if layering.writes_to != layer:
            assert layer in layering.files
            self._world.touch("add layer", effect)

    def writes_to(self, disk: str, layer: str) -> bool:
        return self._world.layering.writes_to == layer

    def begin_commit(self, name: str, disk: Disk, layer: str) -> None:
        if name not in self._world.jobs:
            assert self._world.layering.writes_to == layer
            self._world.touch("begin commit", lambda: self._world.jobs.add(name))

    def progress(self, name: str, seconds: float) -> int:
        assert name in self._world.jobs

        def effect() -> None:
            self._world.layering.is_held = True
            self._world.layering.whole = {self._world.layering.writes_to, FIRST}

        if not self._world.layering.is_held:
            self._world.touch("commit", effect)
        return 100

    def finish(self, name: str, disk: Disk, layer: str) -> None:
        def effect() -> None:
            self._world.layering.writes_to, self._world.layering.is_held = FIRST, False
            self._world.jobs.discard(name)

        if name in self._world.jobs:
            assert self._world.layering.is_held
            self._world.touch("finish commit", effect)

    def abandon(self, name: str, disk: Disk) -> None:
        self._world.jobs.discard(name)
        self._world.layering.is_held = False


class FakeLayerStore:
    """Keeps `compute_agent.storage.layers.contract.LayerStore` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self, instance: Instance, device: BlockDevice) -> None: ...

    def make(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        def effect() -> None:
            self._world.layering.files.add(layer)
            if FIRST in self._world.layering.whole:
                self._world.layering.whole.add(layer)

        assert layer not in device.layers
        self._world.touch("make layer", effect)

    def forget_marks(self, instance: Instance, device: BlockDevice) -> None:
        assert not self._world.guests
        self._world.touch("forget marks", self._world.marks.clear)

    def commit(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        assert not self._world.guests
        assert layer in device.layers and layer in self._world.layering.whole, "newer data would be written over"
        self._world.touch("commit", lambda: self._world.layering.whole.add(FIRST))

    def empty(self, instance: Instance, device: BlockDevice) -> None:
        assert not self._world.guests
        self._world.touch("empty layer", lambda: None)

    def delete(self, instance: Instance, device: BlockDevice, layer: str) -> None:
        def effect() -> None:
            for layers in (self._world.layering.files, self._world.layering.whole, self._world.layering.holding):
                layers.discard(layer)

        assert layer not in device.layers
        assert not self._world.guests or self._world.layering.writes_to != layer
        self._world.touch("delete layer", effect)

    def fold(self, instance: Instance, device: BlockDevice) -> None: ...
