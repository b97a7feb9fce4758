"""A guest that moves to another host while it runs: what every hypervisor offers, two parts of `Guest`.

Both sides only carry. Whose the guest is, and so who lets it run, is decided above (`compute_agent.agent`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from compute_agent.block.mirrors import DiskMirrors
from compute_agent.instance.devices import NbdSource

Stage = Literal["disks", "memory", "rest", "cut_off", "complete"]
Rest = Literal["here", "comes", "cut_off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast memory may go, and how long the guest may stand still for the last of it."""

    bandwidth: int = 0
    """Bytes a second; 0: as fast as it goes."""
    downtime: float = 0.3
    """Seconds."""
    throttles: bool = False
    """The guest is slowed down where it writes faster than that is carried."""
    compresses: bool = False
    """Of what it writes to again only the changes are carried, where that can be done; from its beginning or never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgress:
    """How far it is. Sizes in bytes, times in seconds."""

    stage: Stage
    """From ``rest`` on the guest stands still here, and may go on there.

    ``rest``: some of its memory is here only, and sent as it is needed there (post-copy). ``cut_off``: the connection
    for that is lost. ``complete``: all of the guest is there.
    """
    percent: int
    remaining: int = 0
    dirty_rate: int = 0
    """Bytes a second that the guest writes to its memory."""
    expected_downtime: float = 0.0
    time_left: float | None = None
    """Until the stage is over, if all goes on as now; None: not known, or the guest writes as fast as it is carried."""


class OutgoingMigration(Protocol):
    """From here to another host; one at a time. But for `begin` each verb may be repeated after a crash."""

    def have_disks_copied_by(self, mirrors: DiskMirrors) -> None:
        """Where a block server has them open; to be said anew by each agent."""

    def begin(
        self, memory: int, disks: Mapping[str, NbdSource], pace: Pace, key: str | None, *, post_copy: bool = False
    ) -> None:
        """Begin to copy the disks, by name, and then memory, over connections that stay the caller's to close.

        All of it is encrypted with `key`, 32 bytes in hexadecimal, where there is one. `post_copy`: the guest may be
        told to go on there before all of its memory is there.

        :raises MonitorError: it cannot begin; `cancel` puts back what there is of it.
        """

    def advance(self, seconds: float) -> MigrationProgress:
        """Do what has become due, wait up to `seconds` for more, and say how far it is.

        When all is nearly there, the guest is halted, its disks' copies are let go of complete, and the rest follows.

        :raises MonitorError: it has failed, or none is under way; `cancel` lets the guest go on.
        """

    def set_pace(self, pace: Pace) -> None:
        """From now on; nothing happens where none is under way."""

    def start_post_copy(self) -> None:
        """Halt the guest as soon as may be, and send its memory as it is needed there; its disks are there before.

        :raises MonitorError: nothing has prepared that, or its memory is not on its way yet.
        """

    def reconnect(self, connection: int, key: str | None) -> None:
        """Go on with the rest over another connection, in place of one that is lost.

        :raises MonitorError: none is lost.
        :raises DeadlineExceeded: nobody at the other end has agreed on a key yet; until then the monitor is silent.
        """

    def cancel(self) -> None:
        """Nothing is carried any more, and the guest may be resumed. Nothing happens where nothing was.

        Not for a guest that has gone on there.
        """


class IncomingMigration(Protocol):
    """From another host to a guest that was started to wait for it."""

    def prepare(self) -> None:
        """See that nothing of it happens by itself at the end: the guest stays halted, silent and off its disks."""

    def use_key(self, key: str | None) -> None:
        """Whoever is let in from now on has to know it, 32 bytes in hexadecimal; None: nothing is encrypted.

        Those who were let in to disks before are cut off. What comes in of memory goes on.
        """

    def let_disks_in(self, listener: int, disks: Sequence[str]) -> None:
        """Let whoever connects to the listening socket write to these disks, which the guest's process has open.

        :raises MonitorError: it has not.
        """

    def let_memory_in(self, connection: int) -> None:
        """Take memory from this connection.

        :raises MonitorError: it has been let in before.
        """

    def is_complete(self) -> bool:
        """The guest is here, and may go on; some of its memory may come when it is needed (post-copy)."""

    def rest(self) -> Rest:
        """Where the rest of its memory is, once the guest may go on; cut_off: nothing brings it."""

    def take_connection(self, connection: int) -> None:
        """Have the process keep this one for the rest, in place of any earlier one; nothing is read from it yet."""

    def fetch_rest(self) -> None:
        """Go on with the rest over the connection that was taken, where somebody sends.

        :raises MonitorError: there is none, or none is needed.
        """

    def drop_connection(self) -> None:
        """Let go of the connection that was taken, if it is not used. May be repeated."""

    def shut_disks(self) -> None:
        """Nobody else writes to the disks any more, where anybody was let in. May be repeated."""

    def announce(self) -> None:
        """Have the network know, several times over some seconds, where the guest's addresses are now."""
