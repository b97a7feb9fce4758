"""Copies of disks in `tests.unit.agent.world`: jobs of the guest that outlive the agent, and files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from compute_agent.virt.copies import DiskCopy

if TYPE_CHECKING:
    from tests.unit.agent.world import World


class FakeCopies:
    """Keeps `compute_agent.virt.copies.DiskCopies` over the world."""

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
