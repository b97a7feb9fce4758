"""What happens to a guest without being asked for becomes an operation of its own, in its turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from threading import Event

from compute_agent.agent.arrivals import ROLL_BACK
from compute_agent.agent.evacuees import has_lost
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.instance.record import InstanceRecord
from compute_agent.instance.state import LIVING, VmState
from compute_agent.virt.contract import DiskFailure, GuestExit


class Incidents:
    """Called back by the rooms, in threads of theirs; they may begin before the agent is complete."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._complete = Event()

    def begin(self, node: Node, carry_out: Callable[[Request], None]) -> None:
        """From now on they are looked into; `carry_out` takes an accepted request."""
        self._node = node
        self._carry_out = carry_out
        self._complete.set()

    def guest_exited(self, exited: GuestExit) -> None:
        """A guest ended by itself: put the rest of it away, unless an operation is about to do that anyway."""
        self._look_into(exited.instance_uuid, lambda: self._put_away(exited))

    def host_booted(self, instance_uuid: str) -> None:
        """The host has been booted since the guest was started."""
        self._look_into(instance_uuid, lambda: self._bring_back(instance_uuid))

    def disk_failed(self, failure: DiskFailure) -> None:
        """A guest is held up by a disk that is full or failing."""
        self._look_into(failure.instance_uuid, lambda: self._note_failure(failure))

    def disks_cut_off(self, instance_uuid: str) -> None:
        """The block server of a guest's disks is gone."""
        self._look_into(instance_uuid, lambda: self._reconnect(instance_uuid))

    def migration_over(self, instance_uuid: str) -> None:
        """The guest that comes from another host does not come; nothing happens where it is this host's by now."""
        self._look_into(instance_uuid, lambda: self._roll_back(instance_uuid))

    def evacuated(self, instance_uuid: str) -> None:
        """The instance is another host's: clear away what is here of it, after another look."""
        self._look_into(instance_uuid, lambda: self._clear_away(instance_uuid))

    def _look_into(self, instance_uuid: str, look: Callable[[], None]) -> None:
        def when_complete() -> None:
            self._complete.wait()
            look()

        self._lanes.submit(instance_uuid, when_complete)

    def _roll_back(self, instance_uuid: str) -> None:
        row = self._node.journal.find_instance(instance_uuid)
        if row is not None and row.vm_state is VmState.INCOMING and row.record.incoming is not None:
            self._do(ROLL_BACK, instance_uuid, migration=row.record.incoming.migration)

    def _clear_away(self, instance_uuid: str) -> None:
        row = self._node.journal.find_instance(instance_uuid)
        if row is not None and has_lost(self._node, row.record):
            self._do("evacuated", instance_uuid)

    def _put_away(self, exited: GuestExit) -> None:
        self._roll_back(exited.instance_uuid)
        if self._observed(exited.instance_uuid) is VmState.STOPPED:
            self._do("guest_exit", exited.instance_uuid, reason=exited.reason, detail=exited.detail)

    def _bring_back(self, instance_uuid: str) -> None:
        row = self._node.journal.find_instance(instance_uuid)
        if row is not None and row.vm_state is VmState.ACTIVE and self._node.find_guest(instance_uuid) is None:
            self._do("host_boot", instance_uuid)

    def _note_failure(self, failure: DiskFailure) -> None:
        if self._observed(failure.instance_uuid) is VmState.PAUSED:
            detail = f"{failure.disk}: {failure.detail}"
            self._do("disk_error", failure.instance_uuid, disk=failure.disk, reason=failure.reason, detail=detail)

    def _reconnect(self, instance_uuid: str) -> None:
        row = self._node.journal.find_instance(instance_uuid)
        if self._observed(instance_uuid) in LIVING and row and self._is_cut_off(row.record):
            self._do("reconnect_disks", instance_uuid)

    def _is_cut_off(self, record: InstanceRecord) -> bool:
        return self._node.storage.is_cut_off(record.instance, vhost_user=record.takes_vhost_user)

    def _observed(self, instance_uuid: str) -> VmState | None:
        """The state of an instance that should have a guest; None for any other."""
        row = self._node.journal.find_instance(instance_uuid)
        if row is None or row.vm_state not in LIVING:
            return None
        return self._node.observed_state(instance_uuid, row.vm_state)

    def _do(self, operation: str, instance_uuid: str, **arguments: object) -> None:
        request = Request(
            request_id=str(uuid.uuid4()), operation=operation, instance_uuid=instance_uuid, arguments=arguments
        )
        self._node.journal.add_operation(request)
        self._carry_out(request)
