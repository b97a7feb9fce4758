"""What a guest of `vmm` cannot do yet, refused by name; what has nothing to do is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compute_agent.errors import MigrationRefused
from compute_agent.instance.devices import NbdSource
from compute_agent.virt.migration import MigrationProgress, Pace

STAYS = "vmm cannot move its guests to other hosts yet"


class NoMigration:
    """Keeps both parts of `compute_agent.virt.migration`."""

    def begin(self, memory: int, disks: Mapping[str, NbdSource], pace: Pace, key: str | None) -> None:
        raise MigrationRefused("hypervisor", STAYS)

    def advance(self, seconds: float) -> MigrationProgress:
        raise MigrationRefused("hypervisor", STAYS)

    def set_pace(self, pace: Pace) -> None:
        """None is under way."""

    def cancel(self) -> None:
        """There is none."""

    def prepare(self) -> None:
        raise MigrationRefused("hypervisor", STAYS)

    def use_key(self, key: str | None) -> None:
        raise MigrationRefused("hypervisor", STAYS)

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        raise MigrationRefused("hypervisor", STAYS)

    def let_memory_in(self, connection: int) -> None:
        raise MigrationRefused("hypervisor", STAYS)

    def is_complete(self) -> bool:
        return False

    def shut_disks(self) -> None:
        """There is nobody."""

    def announce(self) -> None:
        """It has not moved."""
