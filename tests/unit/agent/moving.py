"""A guest between two worlds of fakes: what is sent from one has arrived in the other."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from compute_agent.block.mirrors import DiskMirrors, NoMirrors
from compute_agent.errors import GuestGone, MigrationRefused, MonitorError, StorageError
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.migration import Mover
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState
from compute_agent.storage.moving.contract import Progress
from compute_agent.virt.migration import MigrationProgress, Pace, Rest, Stage

if TYPE_CHECKING:
    from tests.unit.agent.world import World


@dataclass
class SharedDisk:
    """One that both hosts can reach."""

    owner: World | None = None
    noted: World | None = None
    """Where a guest has it connected, as a note beside a file says; whoever lets go of what is his removes the note."""
    locked_by: World | None = None
    """Where a guest has gone, but not all of its memory: by its process, though nobody has let it run yet."""
    is_removed: bool = False
    evacuated_at: int | None = None
    """The epoch that is on it."""


@dataclass
class Moving:
    """In the processes of one world; and what there is on its disks."""

    shared: SharedDisk | None = None
    is_elsewhere: bool = False
    """What is shared is the other host's."""
    proofs: set[str] = field(default_factory=set)
    """That this world has left beside what is shared."""

    other: World | None = None
    is_refused: bool = False
    """No guest can come here."""
    on_timeout: Literal["abort", "force", "post-copy"] = "abort"
    timeout: float = 3600.0
    """Seconds that a guest's memory may take; below nothing: they are over at once."""
    permits_post_copy: bool = False
    is_post_copied: bool = False
    rest: int = 0
    """Pieces of memory that are here only, while the guest may run there."""
    lacks: bool = False
    """The guest here has not all of its memory."""
    is_cut_off: bool = False
    """The rest does not come over any more."""
    has_connection: bool = False
    """Another one, for the rest."""
    is_copying: bool = False
    is_nearly_there: bool = False
    is_sent: bool = False
    has_arrived: bool = False
    disks_are_open: bool = False
    memory_came: bool = False
    files_came: set[str] = field(default_factory=set)
    files_taken: set[str] = field(default_factory=set)
    """What the instance has here in these is what it had there."""

    disks_key: str | None = None
    """That whoever writes to them has to know."""
    is_mirrored: bool = False
    """A disk is copied, by whoever has it open."""

    def end(self) -> None:
        """The process is gone."""
        self.is_copying = self.is_sent = self.has_arrived = self.memory_came = False
        self.lacks = self.has_connection = False
        if self.rest and self.other is not None:
            self.other.moving.is_cut_off = True
        self.rest = 0

    def close_disks(self) -> None:
        """Who had them open is gone."""
        self.disks_are_open = self.is_mirrored = False

    def is_kept_out(self, instance_uuid: str) -> bool:
        """A process of the other world has locked what is shared."""
        is_locked = self.shared is not None and self.shared.locked_by is self.other
        return is_locked and self.other is not None and instance_uuid in self.other.guests

    def cut(self) -> None:
        """The connection to the other world."""
        assert self.other is not None
        self.is_cut_off = self.other.moving.is_cut_off = True


class FakeMoves:
    """Keeps `compute_agent.storage.contract.DiskMoves` over the world: what the instance was made with is copied."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.files = FakeFileMoves(world)

    def served(self, instance_uuid: str) -> FakeServedMoves | None:
        is_there = self._world.hypervisor == "vmm" and instance_uuid in self._world.guests
        return FakeServedMoves(self._world) if is_there else None

    def mirrored(self, instance: Instance) -> Sequence[str]:
        return [str(device.device_name) for device in instance.block_devices]

    def leave_proof(self, instance: Instance, proof: str, *, runs: bool) -> None:
        self._world.touch("leave proof", lambda: self._world.moving.proofs.add(proof))

    def take_proof_back(self, instance: Instance, proof: str) -> None:
        self._world.touch("take proof back", lambda: self._world.moving.proofs.discard(proof))

    def require_shared(self, mover: Mover) -> None:
        other = self._world.moving.other
        if other is not None and mover.proof not in other.moving.proofs:
            raise MigrationRefused("disk1", "it is not on a file system that both share")

    def disown(self, instance_uuid: str) -> None:
        def effect() -> None:
            self._world.moving.is_elsewhere = True

        self._world.touch("disown", effect)

    def take_over(self, instance: Instance) -> None:
        self._world.touch("take over", self._take_over)

    def note_owner(self, instance: Instance, epoch: int) -> None: ...

    def check_evacuation(self, instance: Instance, source: str, epoch: int) -> None:
        shared = self._world.moving.shared
        if shared is None:
            raise MigrationRefused("disk0", f"it exists on {source} only")
        if shared.evacuated_at is not None and shared.evacuated_at > epoch:
            raise MigrationRefused("epoch", f"{epoch} is not above {shared.evacuated_at}")

    def evacuate(self, instance: Instance, source: str, epoch: int) -> None:
        self._world.touch("claim", lambda: self._claim(epoch))

    def _claim(self, epoch: int) -> None:
        self._take_over()
        assert self._world.moving.shared is not None
        self._world.moving.shared.evacuated_at = epoch

    def is_lost(self, instance: Instance, epoch: int) -> bool:
        shared = self._world.moving.shared
        return shared is not None and shared.evacuated_at is not None and shared.evacuated_at > epoch

    def _take_over(self) -> None:
        moving = self._world.moving
        moving.is_elsewhere = False
        if moving.shared is not None:
            moving.shared.owner = moving.shared.noted = self._world


class FakeFileMoves:
    """Keeps `compute_agent.storage.moving.contract.FileMoves` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(
        self, instance: Instance, files: Sequence[str], connection: socket.socket, bandwidth: int, progress: Progress
    ) -> None:
        newest = set(self.all_of(instance, ["disk0"])) - set(self.lower_of(instance, ["disk0"]))
        assert instance.uuid not in self._world.guests or not newest & set(files), "a guest writes to what is copied"
        progress(50)
        self._world.touch("send files", lambda: self._send(instance.uuid, files))

    def _send(self, instance_uuid: str, files: Sequence[str]) -> None:
        other = self._world.moving.other
        assert other is not None
        if instance_uuid not in other.disks:
            raise StorageError("nobody takes them any more")
        other.moving.files_came |= set(files)

    def receive(self, instance: Instance, files: Sequence[str], connection: socket.socket) -> None:
        raise AssertionError("nothing is received in a world of fakes")

    def all_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        (device,) = instance.block_devices
        return ["disk0", *(f"disk0.{layer}" for layer in device.layers)]

    def lower_of(self, instance: Instance, disks: Sequence[str]) -> Sequence[str]:
        return self.all_of(instance, disks)[:-1]

    def has_all(self, instance: Instance, files: Sequence[str]) -> bool:
        return self._world.moving.files_came >= set(files)

    def take(self, instance: Instance) -> None:
        self._world.touch("take files", self._take)

    def _take(self) -> None:
        moving = self._world.moving
        moving.files_taken |= moving.files_came
        moving.files_came = set()


class FakeMirrors:
    """Keeps `compute_agent.block.mirrors.DiskMirrors` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, disks: Mapping[str, NbdSource], bandwidth: int, key: str | None) -> None:
        assert (set(disks), key) == ({"disk0"}, "ab" * 32)
        other = self._world.moving.other
        assert other is not None and other.moving.disks_are_open
        self._world.moving.is_mirrored = True

    def jobs(self) -> list[dict[str, Any]]:
        return []

    def finish(self) -> None:
        assert self._world.moving.is_mirrored, "nobody copies its disk"
        self._world.moving.is_mirrored = False

    def abandon(self) -> None:
        self._world.moving.is_mirrored = False

    def tell(self, changed: Callable[[], None]) -> None: ...


class FakeServedMoves:
    """Keeps `compute_agent.storage.moving.contract.ServedMoves` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.mirrors = FakeMirrors(world)

    def let_in(self, disks: Sequence[str], address: str, ports: range, key: str | None) -> int:
        self._world.moving.disks_are_open = True
        self._world.moving.disks_key = key
        return ports[0]

    @property
    def let_in_with(self) -> str | None:
        return self._world.moving.disks_key

    def shut(self) -> None:
        def effect() -> None:
            self._world.moving.disks_are_open = False

        self._world.touch("shut served disks", effect)


class FakeOutgoing:
    """Keeps `compute_agent.virt.migration.OutgoingMigration` over the world."""

    def __init__(self, world: World, uuid: str) -> None:
        self._world = world
        self._uuid = uuid
        self._mirrors: DiskMirrors = FakeMirrors(world) if world.hypervisor == "qemu" else NoMirrors()

    def have_disks_copied_by(self, mirrors: DiskMirrors) -> None:
        self._mirrors = mirrors

    def begin(
        self, memory: int, disks: Mapping[str, NbdSource], pace: Pace, key: str | None, *, post_copy: bool = False
    ) -> None:
        def effect() -> None:
            self._mirrors.begin(disks, pace.bandwidth, key)
            self._world.moving.is_copying = True
            self._world.moving.is_cut_off = False

        self._world.moving.permits_post_copy = post_copy
        self._world.touch("begin copy", effect)

    def advance(self, seconds: float) -> MigrationProgress:
        moving = self._world.moving
        if self._uuid not in self._world.guests:
            raise GuestGone("its process has ended")
        if moving.rest:
            return self._advance_rest()
        if not (moving.is_copying or moving.is_sent):
            raise MonitorError("nothing is copied")
        if moving.is_copying and moving.is_post_copied:
            self._world.touch("switch", self._switch)
            return MigrationProgress(stage="rest", percent=0)
        if moving.is_copying and (moving.permits_post_copy or not moving.is_nearly_there):
            self._world.touch("copy most of it", self._copy_most)
            return MigrationProgress(stage="memory", percent=90)
        if moving.is_copying:
            self._world.touch("send", self._send)
        return MigrationProgress(stage="complete", percent=100)

    def _advance_rest(self) -> MigrationProgress:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        if self._uuid not in other.guests:
            moving.is_cut_off = True
        if not moving.is_cut_off:
            self._world.touch("send rest", self._send_rest)
        stage: Stage = "cut_off" if moving.is_cut_off else "rest" if moving.rest else "complete"
        return MigrationProgress(stage=stage, percent=0)

    def _send_rest(self) -> None:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        if not moving.is_cut_off and self._uuid in other.guests:
            moving.rest -= 1
            moving.is_sent = not moving.rest
            other.moving.lacks = bool(moving.rest)

    def _switch(self) -> None:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        self._send()
        moving.is_sent, moving.rest, other.moving.lacks = False, 2, True
        other.moving.is_cut_off = False
        if moving.shared is not None:
            moving.shared.locked_by = other

    def start_post_copy(self) -> None:
        if not self._world.moving.permits_post_copy:
            raise MonitorError("that was not prepared")
        self._world.moving.is_post_copied = True

    def reconnect(self, connection: int, key: str | None) -> None:
        assert key == "ab" * 32
        self._world.touch("reconnect", self._reconnect)

    def _reconnect(self) -> None:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        if not (moving.is_cut_off and moving.rest):
            raise MonitorError("nothing is lost")
        if other.moving.has_connection:
            moving.is_cut_off = other.moving.is_cut_off = other.moving.has_connection = False

    def _copy_most(self) -> None:
        self._world.moving.is_nearly_there = True

    def _send(self) -> None:
        moving, other = self._world.moving, self._world.moving.other
        assert other is not None
        if self._uuid not in other.guests:
            raise MonitorError("nobody takes it any more")
        assert other.moving.memory_came
        self._mirrors.finish()
        moving.is_copying, moving.is_sent = False, True
        self._world.guests[self._uuid] = PowerState.PAUSED
        other.moving.has_arrived = True

    def set_pace(self, pace: Pace) -> None: ...

    def cancel(self) -> None:
        self._world.touch("cancel", self._cancel)

    def _cancel(self) -> None:
        self._mirrors.abandon()
        moving = self._world.moving
        assert moving.other is None or PowerState.RUNNING not in moving.other.guests.values()
        moving.is_copying = moving.is_nearly_there = moving.is_post_copied = moving.permits_post_copy = False
        moving.rest = 0


class FakeIncoming:
    """Keeps `compute_agent.virt.migration.IncomingMigration` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self) -> None: ...

    def use_key(self, key: str | None) -> None: ...

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        assert self._world.hypervisor == "qemu", "its process has no disk open"
        self._world.moving.disks_are_open = True

    def let_memory_in(self, connection: int) -> None:
        if self._world.moving.memory_came:
            raise MonitorError("its memory has come in before")
        self._world.moving.memory_came = True

    def is_complete(self) -> bool:
        return self._world.moving.has_arrived

    def rest(self) -> Rest:
        if not self._world.guests:
            raise GuestGone("its process has ended")
        if not self._world.moving.lacks:
            return "here"
        return "cut_off" if self._world.moving.is_cut_off else "comes"

    def take_connection(self, connection: int) -> None:
        self._world.moving.has_connection = True

    def fetch_rest(self) -> None:
        raise MonitorError("nobody has begun to send it")

    def drop_connection(self) -> None: ...

    def shut_disks(self) -> None:
        def effect() -> None:
            self._world.moving.disks_are_open &= self._world.hypervisor == "vmm"

        self._world.touch("shut disks", effect)

    def announce(self) -> None:
        self._world.touch("announce", lambda: None)
