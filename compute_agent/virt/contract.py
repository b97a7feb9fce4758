"""What every hypervisor offers to the agent.

Each verb may be repeated after a crash. Every call returns within its deadline; `DeadlineExceeded`
means "unknown": the caller asks `status()` before it undoes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from compute_agent.block.open_disks import OpenDisks
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.devices import BootFiles, Disk, Nic
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.instance.model import Instance, Port
from compute_agent.instance.state import PowerState
from compute_agent.instance.view import CpuView
from compute_agent.virt.migration import IncomingMigration, OutgoingMigration


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestExit:
    """A guest stopped without having been told to by this agent."""

    instance_uuid: str
    reason: Literal["powered_off", "crashed"]
    detail: str
    """For a person: the signal or status, and the last lines that the process wrote."""


OnGuestExit = Callable[[GuestExit], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFailure:
    """A guest has been paused because its host could not do what it wants of a disk; `Guest.resume` tries it again."""

    instance_uuid: str
    disk: str
    reason: Literal["no_space", "io_error"]
    detail: str
    """For a person."""


OnDiskFailure = Callable[[DiskFailure], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """All that a hypervisor needs to start one guest."""

    instance: Instance
    machine: Machine
    disks: Sequence[Disk]
    nics: Sequence[Nic]
    boot: BootFiles | None = None
    saved_state: Path | None = None
    """Memory saved by `Guest.save`: the guest is loaded from it and left paused."""
    is_incoming: bool = False
    """Its memory comes from another host: the guest waits for it, and is left paused."""


class Guest(Protocol):
    """A guest's process, seen from the agent."""

    @property
    def instance_uuid(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def open_disks(self) -> OpenDisks | None:
        """Its disks, where its process has them open; None: its block server has, or the process has ended."""

    @property
    def outgoing(self) -> OutgoingMigration:
        """Its way to another host."""

    @property
    def incoming(self) -> IncomingMigration:
        """Its way here, where it was started to wait for it."""

    def status(self, seconds: float | None = None) -> PowerState:
        """What the machine does now; UNRESPONSIVE where the monitor does not answer, never an exception.

        `seconds` is how long it may take (default: as long as any command). A guest that has been silent for
        longer is not waited for again.

        SHUTDOWN means that the guest powered itself off (its process still holds the devices) or is gone.
        """

    def pause(self) -> None:
        """Stop the vCPUs. Nothing happens to a paused guest."""

    def resume(self) -> None:
        """Let the vCPUs run. Nothing happens to a running guest."""

    def press_power_button(self) -> None:
        """Ask the guest's system to shut down (ACPI); it may refuse or ignore it."""

    def wait_for_shutdown(self, seconds: float) -> bool:
        """Wait until the guest has powered off or its process is gone: True, or False at the deadline."""

    def reset(self) -> None:
        """Pull the reset line and let the vCPUs run, as after power-on; also revives a powered-off guest."""

    def save(self, path: Path) -> None:
        """Write memory and device state of the paused guest to `path`, durably.

        :raises MonitorError: nothing was saved, the guest is still paused and may go on.
        """

    def kill(self) -> None:
        """End the process and wait until it is gone. Nothing happens where it is gone already.

        :raises DeadlineExceeded: it does not die (a task stuck in the kernel).
        """

    def has_device(self, name: str) -> bool:
        """The disk or NIC of that name is plugged, and all that belongs to it."""

    def attach_disk(self, disk: Disk, machine: Machine) -> None:
        """Plug a disk, which the guest has not, into its place in the machine.

        :raises GuestError: it cannot be plugged; nothing of it is left in the guest.
        """

    def detach_disk(self, name: str) -> None:
        """Ask the guest to let go of a disk, and take it away. Nothing happens where there is none.

        :raises DetachRefused: the guest has not let go of it; the disk is as it was, and this may be repeated.
        """

    def resize_disk(self, name: str, size: int | None) -> None:
        """Tell the guest that a disk has `size` bytes now; a local file is grown. None: as many as its server gives."""

    def reconnect_disk(self, disk: Disk) -> None:
        """Go over to a fresh connection to the same disk; the guest does not notice."""

    def attach_nic(self, nic: Nic, machine: Machine) -> None:
        """Plug a NIC, which the guest has not, into its place in the machine.

        :raises GuestError, HostError: it cannot be plugged; nothing of it is left in the guest.
        """

    def detach_nic(self, name: str) -> None:
        """Ask the guest to let go of a NIC, and its process of what an `attach_nic` that was cut short has left.

        Nothing happens where there is neither. Nobody holds the port's tap any more when this returns.

        :raises DetachRefused: the guest has not let go of it; the NIC is as it was, and this may be repeated.
        """

    def diagnostics(self) -> Mapping[str, object]:
        """Counters for a person: state, uptime, CPU time, disk and NIC counters, balloon; plain JSON values."""


class Hypervisor(Protocol):
    """Starts guests, and finds those that an earlier agent started."""

    def describe(self) -> Mapping[str, object]:
        """What this hypervisor is and can do here, for `get_host`: name, version, accelerator and why."""

    def describe_cpu(self) -> CpuView:
        """What CPUs its guests can have.

        :raises HostError: that cannot be found out.
        """

    def check(self, instance: Instance) -> None:
        """Refuse early what this host cannot give a guest; changes nothing.

        :raises HostError: names what the flavor wants and the host has not.
        """

    def design(self, instance: Instance) -> Machine:
        """Decide the machine for a new instance; pure, apart from what the host has been found to be.

        :raises InvalidMessage: this hypervisor cannot run such an instance.
        """

    def add_disk(self, machine: Machine, device: BlockDevice) -> Machine:
        """The machine with a place for one more disk; pure.

        :raises InvalidMessage: it has no place left.
        """

    def add_nic(self, machine: Machine, port: Port) -> Machine:
        """The machine with a place for one more NIC; pure.

        :raises InvalidMessage: it has no place left.
        """

    def remove_device(self, machine: Machine, name: str) -> Machine:
        """The machine with a disk's or NIC's place free again; pure."""

    def limit_disk(self, instance: Instance, disk: Disk) -> None:
        """See that what the flavor allows a running guest's process counts for a disk, too, that it is about to get.

        :raises HostError: the disk is on nothing that I/O can be limited on.
        """

    def start(self, request: StartRequest) -> Guest:
        """Start the guest, or let the one go on that an earlier agent has started, which needs neither disks nor NICs.

        Running on return; paused where its memory comes with it.

        :raises GuestStartFailed: no process is left.
        """

    def facts(self, machine: Machine) -> HostFacts:
        """What another host has to know to say whether a guest with such a machine can move there.

        :raises MigrationRefused: it can move nowhere; says why.
        """

    def check_incoming(self, machine: Machine, facts: HostFacts | None, *, post_copy: bool = False) -> None:
        """A guest with such a machine can come here from a host of which these are the facts; changes nothing.

        None: it does not run, and is only to be started here. `post_copy`: some of its memory may come when it runs
        here already.

        :raises MigrationRefused: names what is missing here.
        """

    def adopt(self, instance_uuid: str) -> Guest | None:
        """The running guest of that instance, or None: there is no process of it on this host."""

    def console_output(self, instance_uuid: str, length: int) -> bytes:
        """The last `length` bytes of the serial console, also after the guest has stopped."""

    def console_socket(self, instance_uuid: str) -> Path:
        """Where a person on this node can talk to the serial console."""

    def saved_state_path(self, instance_uuid: str) -> Path:
        """Where the memory of a suspended instance is kept."""

    def forget(self, instance_uuid: str) -> None:
        """Remove the directories of an instance that has no process any more. May be repeated."""

    def inspect(self) -> set[str]:
        """The uuids of all instances that have a process or a directory of this hypervisor on this host."""

    def foreign(self) -> set[str]:
        """In words, what is among the guests' directories, groups and processes and is no guest of this agent's."""

    def close(self) -> None:
        """Let go of every guest without touching it."""
