"""Images that cannot be removed yet."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from compute_agent.errors import DeadlineExceeded, DiskInUse, InvalidMessage
from compute_agent.storage.rbd.credentials import ClusterUser
from compute_agent.storage.rbd.purge import PurgeQueue, UnwantedImage

USER = ClusterUser(auth_username="cinder", secret_uuid="5f1d3c3e-6f1a-4a57-8d6e-6b8d2c7f0a11")
FIRST = UnwantedImage(user=USER, pool="volumes", image="first")
SECOND = UnwantedImage(user=USER, pool="volumes", image="second")


class World:
    """Images that are open as long as the test says, and a clock."""

    def __init__(self, directory: Path) -> None:
        self.now = 1000.0
        self.directory = directory
        self.open: dict[str, Exception] = {}
        self.attempts: list[str] = []

    def queue(self) -> PurgeQueue:
        return PurgeQueue(self.directory, self._remove, lambda: self.now)

    def _remove(self, unwanted: UnwantedImage) -> None:
        self.attempts.append(unwanted.image)
        if unwanted.image in self.open:
            raise self.open[unwanted.image]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_can_be_removed_is(world: World) -> None:
    assert world.queue().purge(FIRST)
    assert world.queue().pending() == []
    assert list(world.directory.iterdir()) == []


def test_snapshots_wait_for_what_may_stand_on_them(world: World) -> None:
    queue = world.queue()
    clones = [f"clone{number}" for number in range(8)]
    for name in ("parent", *clones):
        snapshot = "base" if name == "parent" else None
        queue.add(UnwantedImage(user=USER, pool="volumes", image=name, snapshot=snapshot))
    assert queue.run_due() == 0
    assert sorted(world.attempts[:-1]) == clones
    assert world.attempts[-1] == "parent"


@pytest.mark.parametrize("error", [DiskInUse("open"), DeadlineExceeded("no answer"), InvalidMessage("f", "v", "gone")])
def test_what_cannot_waits_for_the_next_agent(world: World, error: Exception) -> None:
    world.open["first"] = error
    assert not world.queue().purge(FIRST)
    queue = world.queue()
    assert queue.pending() == [FIRST]
    del world.open["first"]
    assert queue.run_due() == 0
    assert queue.pending() == []


def test_the_pauses_grow(world: World) -> None:
    world.open["first"] = DiskInUse("open")
    queue = world.queue()
    queue.purge(FIRST)
    began, times = world.now, []
    while len(times) < 12:
        world.now += 10
        before = len(world.attempts)
        assert queue.run_due() == 1
        if len(world.attempts) > before:
            times.append(world.now - began)
    assert times[:4] == [10, 30, 70, 150]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert max(pauses) == 3600


def test_one_does_not_keep_the_other(world: World) -> None:
    world.open["first"] = DiskInUse("open")
    queue = world.queue()
    queue.add(FIRST)
    queue.add(SECOND)
    queue.add(SECOND)
    assert queue.run_due() == 1
    assert queue.pending() == [FIRST]


def test_room_for_an_image_of_the_same_name(world: World) -> None:
    queue = world.queue()
    queue.make_room(FIRST)
    assert world.attempts == [], "it was not unwanted: it is somebody's"
    world.open["first"] = DiskInUse("open")
    queue.purge(FIRST)
    with pytest.raises(DiskInUse):
        queue.make_room(FIRST)
    del world.open["first"]
    queue.make_room(FIRST)
    world.attempts.clear()
    world.now += 10_000
    assert queue.run_due() == 0
    assert world.attempts == []


def test_what_a_crash_left(world: World) -> None:
    queue = world.queue()
    queue.add(FIRST)
    (path,) = world.directory.iterdir()
    (world.directory / "other.json.part").write_bytes(path.read_bytes()[:10])
    (world.directory / "broken.json").write_text("{")
    assert world.queue().run_due() == 0
    assert world.attempts == ["first"]
    assert [path.name for path in world.directory.iterdir()] == ["broken.json"]
