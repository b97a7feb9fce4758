"""A guest between two worlds of fakes: what is sent from one has arrived in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_agent.errors import MonitorError
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState
from compute_agent.virt.migration import MigrationProgress, Pace

if TYPE_CHECKING:
    from tests.unit.agent.world import World


@dataclass
class SharedDisk:
    """One that both hosts can reach."""

    owner: World | None = None
    is_removed: bool = False


@dataclass
class Moving:
    """In the processes of one world; and what there is on its disks."""

    shared: SharedDisk | None = None
    is_elsewhere: bool = False
    """What is shared is the other host's."""

    other: World | None = None
    is_refused: bool = False
    """No guest can come here."""
    is_copying: bool = False
    is_nearly_there: bool = False
    is_sent: bool = False
    has_arrived: bool = False
    disks_are_open: bool = False
    memory_came: bool = False

    def end(self) -> None:
        """The process is gone."""
        self.is_copying = self.is_sent = self.has_arrived = self.disks_are_open = self.memory_came = False


class FakeMoves:
    """Keeps `compute_agent.storage.contract.DiskMoves` over the world: what the instance was made with is copied."""

    def __init__(self, world: World) -> None:
        self._world = world

    def mirrored(self, instance: Instance) -> Sequence[str]:
        return [str(device.device_name) for device in instance.block_devices]

    def require_shared(self, instance: Instance) -> None: ...

    def disown(self, instance_uuid: str) -> None:
        def effect() -> None:
            self._world.moving.is_elsewhere = True

        self._world.touch("disown", effect)

    def take_over(self, instance: Instance) -> None:
        self._world.touch("take over", self._take_over)

    def _take_over(self) -> None:
        moving = self._world.moving
        moving.is_elsewhere = False
        if moving.shared is not None:
            moving.shared.owner = self._world


class FakeOutgoing:
    """Keeps `compute_agent.virt.migration.OutgoingMigration` over the world."""

    def __init__(self, world: World, uuid: str) -> None:
        self._world = world
        self._uuid = uuid

    def begin(self, memory: int, disks: Mapping[str, NbdSource], pace: Pace, key: str | None) -> None:
        assert set(disks) == {"disk0"}
        assert key == "ab" * 32
        self._world.touch("begin copy", self._begin)

    def _begin(self) -> None:
        self._world.moving.is_copying = True

    def advance(self, seconds: float) -> MigrationProgress:
        moving = self._world.moving
        if not (moving.is_copying or moving.is_sent):
            raise MonitorError("nothing is copied")
        if moving.is_copying and not moving.is_nearly_there:
            self._world.touch("copy most of it", self._copy_most)
            return MigrationProgress(stage="memory", percent=90)
        if moving.is_copying:
            self._world.touch("send", self._send)
        return MigrationProgress(stage="complete", percent=100)

    def _copy_most(self) -> None:
        self._world.moving.is_nearly_there = True

    def _send(self) -> None:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        if self._uuid not in other.guests:
            raise MonitorError("nobody takes it any more")
        assert other.moving.memory_came
        moving.is_copying, moving.is_sent = False, True
        self._world.guests[self._uuid] = PowerState.PAUSED
        other.moving.has_arrived = True

    def set_pace(self, pace: Pace) -> None: ...

    def cancel(self) -> None:
        self._world.touch("cancel", self._cancel)

    def _cancel(self) -> None:
        self._world.moving.is_copying = self._world.moving.is_nearly_there = False


class FakeIncoming:
    """Keeps `compute_agent.virt.migration.IncomingMigration` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self) -> None: ...

    def use_key(self, key: str | None) -> None: ...

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        self._world.moving.disks_are_open = True

    def let_memory_in(self, connection: int) -> None:
        if self._world.moving.memory_came:
            raise MonitorError("its memory has come in before")
        self._world.moving.memory_came = True

    def is_complete(self) -> bool:
        return self._world.moving.has_arrived

    def shut_disks(self) -> None:
        def effect() -> None:
            self._world.moving.disks_are_open = False

        self._world.touch("shut disks", effect)

    def announce(self) -> None:
        self._world.touch("announce", lambda: None)
