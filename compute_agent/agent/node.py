"""The rooms that operations work with, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Literal

from compute_agent.agent.ends import Ends
from compute_agent.agent.journal import Journal
from compute_agent.agent.peers import Peers
from compute_agent.agent.settings import AgentSettings
from compute_agent.agent.turns import Turns
from compute_agent.errors import GuestGone
from compute_agent.instance.state import PowerState, VmState
from compute_agent.network.contract import PortDriver
from compute_agent.storage.contract import DiskDriver
from compute_agent.virt.contract import Guest, Hypervisor

Wish = Literal["abort", "force"]

_STATE_OF_POWER = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.PAUSED: VmState.PAUSED,
    PowerState.SHUTDOWN: VmState.STOPPED,
    PowerState.CRASHED: VmState.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """This compute node, as an operation sees it."""

    settings: AgentSettings
    journal: Journal
    hypervisor: Hypervisor
    network: PortDriver
    storage: DiskDriver
    peers: Peers
    turns: Turns
    """Of guests that leave."""
    boot_id: str
    """Of the host: another one after each boot."""
    guests: dict[str, Guest] = field(default_factory=dict)
    """Those with a process, by instance uuid. The process is the truth; this only saves looking for it."""
    wishes: dict[str, Wish] = field(default_factory=dict)
    """What a controller wants of a migration that is under way, by its id. It does not outlive the agent."""
    ends: Ends = field(default_factory=Ends)
    """Of operations."""
    second_start: Lock = field(default_factory=Lock)
    """Of whoever starts a guest once more, because many did so at once and none was quick enough."""

    def find_guest(self, instance_uuid: str) -> Guest | None:
        """The instance's guest, if it has a process."""
        guest = self.guests.get(instance_uuid) or self.hypervisor.adopt(instance_uuid)
        if guest is not None:
            self.guests[instance_uuid] = guest
        return guest

    def guest(self, instance_uuid: str) -> Guest:
        """:raises GuestGone: the instance has no process."""
        guest = self.find_guest(instance_uuid)
        if guest is None:
            raise GuestGone(f"instance {instance_uuid} has no running process")
        return guest

    def observed_state(self, instance_uuid: str, believed: VmState) -> VmState:
        """What the instance is, found by looking; `believed` where its guest does not answer."""
        guest = self.find_guest(instance_uuid)
        if guest is not None:
            return _STATE_OF_POWER.get(guest.status(), believed)
        saved = self.hypervisor.saved_state_path(instance_uuid).exists()
        return VmState.SUSPENDED if saved else VmState.STOPPED
