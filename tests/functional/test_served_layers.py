"""Disks that a block server has open for a guest get layers, and lose them, while a virtio driver writes to them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from compute_agent.block.copies import DiskCopy
from compute_agent.block.layers import DiskLayers
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.devices import Disk, FileSource
from compute_agent.instance.model import Instance
from tests.functional.guests import until
from tests.functional.serving import (
    ELSEWHERE,
    Agent,
    Plug,
    agent,
    content,
    dies,
    disks,
    ended,
    kinds,
    moments,
    opened,
    plug,
    running,
    served,
    settings,
    write,
)
from tests.unit.virt.vmm.parts import parts
from tests.unit.virt.vmm.virtio.driver import DriverQueue
from tests.unit.virt.vmm.virtio.storage import MIB, SECTOR, image_has, make_image

__all__ = ["agent", "disks", "ended", "kinds", "parts", "plug", "settings"]

SECONDS = 30


class Layered:
    """An instance with one disk, as the record has it."""

    def __init__(self, begin: Agent, instance: Instance, queue: DriverQueue) -> None:
        self._begin = begin
        self.disks = begin()
        self.instance, self.queue = instance, queue
        self._address = ELSEWHERE

    @property
    def device(self) -> BlockDevice:
        (device,) = self.instance.block_devices
        return device

    @property
    def layers(self) -> DiskLayers:
        return opened(self.disks, self.instance).layers

    def add(self) -> str:
        """As the agent does."""
        layer = self.new()
        self.write_to_newest()
        return layer

    def new(self) -> str:
        layer = str(uuid.uuid4())
        self.disks.layers.check(self.instance, self.device)
        self.disks.layers.make(self.instance, self.device, layer)
        self._note(*self.device.layers, layer)
        return layer

    def write_to_newest(self) -> None:
        self.layers.add(self.open())

    def begin_commit(self, layer: str) -> None:
        self.layers.begin_commit("one", self.open(), layer)
        due = time.monotonic() + SECONDS
        while self.layers.progress("one", 1) < 100:
            assert time.monotonic() < due

    def forget(self, layer: str) -> None:
        self._note(*(one for one in self.device.layers if one != layer))

    def finish(self, layer: str) -> None:
        self.forget(layer)
        self.layers.finish("one", self.open(), layer)
        self.disks.layers.delete(self.instance, self.device, layer)

    def abandon(self) -> None:
        self.layers.abandon("one", self.open())

    def survive(self, monkeypatch: pytest.MonkeyPatch, moment: int, act: Callable[[], object]) -> bool:
        """Have it done by an agent that dies, and by the next one; True: it has died."""
        has_died = dies(monkeypatch, moment, act)
        self.next_agent()
        act()
        return has_died

    def next_agent(self) -> None:
        self.disks = self._begin()

    def restart(self, plug: Plug) -> None:
        """Of the guest: whoever opens the disk now finds what its files say."""
        self.disks.disconnect(self.instance.uuid)
        (disk,) = served(self.disks, self.instance)
        self._address += 0x80000  # where no driver has had its queues yet
        (self.queue,) = plug(disk).set_up(address=self._address)

    def _note(self, *layers: str) -> None:
        device = msgspec.structs.replace(self.device, layers=layers)
        self.instance = msgspec.structs.replace(self.instance, block_devices=[device])

    def open(self) -> Disk:
        return self.disks.connect_disk(self.instance, self.device, vhost_user=False)


@pytest.fixture(params=["overlay", "raw"])
def layered(request: pytest.FixtureRequest, kinds: dict[str, BlockDevice], agent: Agent, plug: Plug) -> Layered:
    instance, (queue,) = running(agent(), plug, kinds[request.param])
    return Layered(agent, instance, queue)


def test_layers_come_and_go(layered: Layered, plug: Plug) -> None:
    write(layered.queue, 2 * MIB, b"\1")
    first = layered.add()
    write(layered.queue, 2 * MIB, b"\2")
    second = layered.add()
    layered.layers.add(layered.open())
    assert layered.layers.writes_to("disk0", second)
    write(layered.queue, 3 * MIB, b"\3")
    layered.next_agent()
    for layer in (first, second):
        layered.begin_commit(layer)
        layered.next_agent()
        layered.finish(layer)
        write(layered.queue, 4 * MIB, b"\4")
    assert [content(layered.queue, at * MIB)[0] for at in (1, 2, 3, 4)] == [7, 2, 3, 4]
    layered.restart(plug)
    assert [content(layered.queue, at * MIB)[0] for at in (1, 2, 3, 4)] == [7, 2, 3, 4]


def test_whenever_an_agent_dies_the_next_one_finishes(layered: Layered, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment in moments():
        layer = layered.new()
        has_died = layered.survive(monkeypatch, moment, layered.write_to_newest)
        write(layered.queue, 2 * MIB, bytes([moment % 256]))
        has_died |= layered.survive(monkeypatch, moment, partial(layered.begin_commit, layer))
        layered.forget(layer)
        has_died |= layered.survive(monkeypatch, moment, partial(layered.finish, layer))
        assert content(layered.queue, 2 * MIB)[0] == moment % 256
        if not has_died:
            return


def test_a_commit_that_is_given_up_leaves_the_layer(layered: Layered, plug: Plug) -> None:
    layer = layered.add()
    write(layered.queue, 2 * MIB, b"\2")
    layered.begin_commit(layer)
    layered.abandon()
    assert layered.layers.writes_to("disk0", layer)
    write(layered.queue, 2 * MIB, b"\3")
    layered.restart(plug)
    assert content(layered.queue, 2 * MIB)[0] == 3


def test_layers_from_before_are_committed_while_the_guest_runs(layered: Layered, plug: Plug) -> None:
    layers = [layered.add(), layered.add()]
    write(layered.queue, 2 * MIB, b"\2")
    layered.restart(plug)
    for layer in reversed(layers):
        layered.begin_commit(layer)
        layered.finish(layer)
        write(layered.queue, 3 * MIB, b"\3")
    layered.restart(plug)
    assert [content(layered.queue, at * MIB)[0] for at in (1, 2, 3)] == [7, 2, 3]


def test_a_disk_that_goes_is_not_committed_any_more(layered: Layered, plug: Plug) -> None:
    """Both with its layer and without it are what its guest has written."""
    layer = layered.add()
    write(layered.queue, 2 * MIB, b"\2")
    layered.begin_commit(layer)
    layered.restart(plug)
    assert content(layered.queue, 2 * MIB)[0] == 2


def test_a_layered_disk_is_copied_and_limited(layered: Layered, tmp_path: Path) -> None:
    layered.add()
    write(layered.queue, 2 * MIB, b"\2")
    found = opened(layered.disks, layered.instance)
    path = make_image(tmp_path / "copy", 64 * MIB)
    copy = DiskCopy(disk="disk0", target=FileSource(path=path, format="qcow2"), mark="mark")
    found.copies.begin("one", [copy])
    write(layered.queue, 2 * MIB, b"\3")
    until(lambda: found.copies.progress("one", 1) == 100)
    found.copies.end()
    assert found.copies.marks("disk0") == {"mark"}
    found.set_disk_qos("disk0", DiskQos(total_iops_sec=1000))
    assert [content(layered.queue, at * MIB)[0] for at in (1, 2)] == [7, 3]
    assert image_has(path, 7, MIB, SECTOR) and image_has(path, 2, 2 * MIB, SECTOR)
