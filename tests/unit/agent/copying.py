"""Copies of disks in `tests.unit.agent.world`: jobs of the guest that outlive the agent, and files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compute_agent.block.copies import DiskCopy
from compute_agent.errors import CopyNotFound, InvalidMessage
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.devices import FileSource
from compute_agent.instance.model import Instance
from compute_agent.storage.contract import Progress
from compute_agent.storage.copies.contract import CopyOrder

if TYPE_CHECKING:
    from tests.unit.agent.world import World


class FakeCopies:
    """Keeps `compute_agent.block.copies.DiskCopies` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self, name: str, copies: Sequence[DiskCopy]) -> bool | None:
        if name in self._world.jobs:
            return None

        def effect() -> None:
            self._world.jobs.add(name)
            self._world.marks.update(copy.mark for copy in copies if copy.mark)

        self._world.touch("begin copies", effect)
        return True

    def at_one_moment(self, act: Callable[[], object]) -> bool:
        act()
        return True

    def progress(self, name: str, seconds: float) -> int:
        assert name in self._world.jobs
        self._world.touch("copy", lambda: None)
        return 100

    def end(self) -> None:
        self._world.touch("end copies", self._world.jobs.clear)

    def marks(self, disk: str) -> set[str]:
        return set(self._world.marks)

    def forget_marks(self, disk: str, keep: Collection[str]) -> None:
        self._world.touch("forget marks", lambda: self._world.marks.intersection_update(keep))


class FakeCopyStore:
    """Keeps `compute_agent.storage.copies.contract.CopyStore` over the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def prepare(self, order: CopyOrder) -> None:
        if order.copy_id in self._world.copies:
            raise InvalidMessage("backup_id", order.copy_id, "there is such a backup already")
        self._world.touch("prepare copies", lambda: self._world.parts.add(order.copy_id))

    def open(self, order: CopyOrder, disk: str) -> FileSource:
        assert order.copy_id in self._world.parts
        return FileSource(path=Path("/dev/null"), format="qcow2")

    def has_moment(self, order: CopyOrder) -> bool:
        return order.copy_id in self._world.moments

    def take_moment(self, order: CopyOrder) -> None:
        self._world.touch("take moment", lambda: self._world.moments.add(order.copy_id))

    def note_frozen(self, order: CopyOrder) -> None:
        assert order.copy_id in self._world.parts

    def copy(self, order: CopyOrder, progress: Progress) -> None:
        assert order.copy_id in self._world.moments if order.is_direct else not self._world.guests
        marks = {order.copy_id} if order.kind == "backup" else set()
        self._world.touch("copy", lambda: self._world.marks.update(marks))

    def keep(self, order: CopyOrder, progress: Progress) -> None:
        def effect() -> None:
            self._world.parts.discard(order.copy_id)
            self._world.moments.discard(order.copy_id)
            self._world.copies.add(order.copy_id)

        self._world.touch("keep copies", effect)

    def forget_older_marks(self, order: CopyOrder) -> None:
        self._world.touch("forget marks", lambda: self._world.marks.intersection_update({order.copy_id}))

    def forget_mark(self, order: CopyOrder) -> None:
        assert not self._world.guests
        self._world.marks.discard(order.copy_id)

    def take_back(self, order: CopyOrder) -> None:
        self._world.copies.discard(order.copy_id)

    def discard(self, order: CopyOrder) -> None:
        self._world.moments.discard(order.copy_id)
        self._world.parts.discard(order.copy_id)

    def tidy(self, is_at_work: Callable[[str], bool]) -> None: ...

    def get_snapshot(self, image_id: str) -> Snapshot:
        self._require(image_id)
        return Snapshot(
            image_id=image_id,
            instance_uuid="",
            url="file:///snapshot",
            checksum="",
            size=1,
            virtual_size=1,
            created_at=0.0,
            frozen=True,
        )

    def delete_snapshot(self, image_id: str) -> None: ...

    def get_backup(self, backup_id: str) -> Backup:
        self._require(backup_id)
        return Backup(backup_id=backup_id, instance_uuid="", parent=None, created_at=0.0, frozen=True, disks=[])

    def _require(self, copy_id: str) -> None:
        if copy_id not in self._world.copies:
            raise CopyNotFound("backup_id", copy_id)

    def list_backups(self) -> list[Backup]:
        return []

    def delete_backup(self, backup_id: str) -> None: ...

    def prepare_restore(self, instance: Instance, backup_id: str, progress: Progress) -> None:
        self._require(backup_id)
        self._world.touch("prepare disks", lambda: self._world.restoring.add("restored"))

    def exchange(self, instance: Instance, backup_id: str) -> None:
        def take_away() -> None:
            self._world.restoring.add("former")

        def bring() -> None:
            self._world.restoring.discard("restored")
            self._world.content = backup_id

        if "restored" in self._world.restoring:
            self._world.touch("take away", take_away)
            self._world.touch("bring", bring)

    def exchange_back(self, instance: Instance) -> None:
        if "former" in self._world.restoring:
            self._world.restoring.discard("former")
            self._world.content = "own"

    def finish_restore(self, instance: Instance) -> None:
        self._world.touch("finish restore", self._world.restoring.clear)
