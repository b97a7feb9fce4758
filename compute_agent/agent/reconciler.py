"""Compares what is on this node with what should be, and removes what carries our mark and nobody wants.

Something is removed only when it was unwanted in two looks in a row: the first look may have caught an
operation half way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import Event, Lock, Thread

import msgspec

from compute_agent.agent.arrivals import is_given_up
from compute_agent.agent.evacuees import has_lost
from compute_agent.agent.incidents import Incidents
from compute_agent.agent.lanes import Job
from compute_agent.agent.node import Node
from compute_agent.errors import ComputeAgentError, StorageError
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Leftover

LOG = logging.getLogger(__name__)


_REMOVED_WITHIN = 10.0
"""Seconds that a look waits for; the rest goes on without it."""
_WITH_PORTS = (VmState.ACTIVE, VmState.PAUSED, VmState.INCOMING)


class Reconciler:
    """One thread that looks at start and then now and then."""

    def __init__(
        self,
        node: Node,
        interval: float,
        submit: Callable[[str, Job], None],
        incidents: Incidents,
    ) -> None:
        """`interval` in seconds. `submit` runs a job in an instance's lane."""
        self._node = node
        self._submit = submit
        self._incidents = incidents
        self._interval = interval
        self._seen: set[Leftover] = set()
        self._foreign: set[str] = set()
        """Seen at the last look."""
        self._told: set[str] = set()
        """That which is foreign, and in the log."""
        self._looking = Lock()
        self._closed = Event()
        self._thread = Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop looking; a look that is under way has `seconds` to end."""
        self._closed.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self.look()
                self.look_after_arrivals()
                self.look_for_evacuated()
                self._node.storage.copies.tidy(lambda uuid: bool(self._node.journal.unfinished(uuid)))
                self._node.journal.forget_operations_beyond(self._node.settings.operation_history)
            except ComputeAgentError as error:
                LOG.warning("This look at the node was cut short: %s", error)
            except Exception:  # the thread's edge: the next look may go well
                LOG.exception("This look at the node was cut short, and nobody foresaw why")
            self._closed.wait(self._interval)

    def look(self, *, dry_run: bool = False) -> list[Leftover]:
        """Compare once; remove what was unwanted the last time as well. What was found, that which is foreign last.

        A dry run changes nothing, and the next look does not know of it.
        """
        with self._looking:
            foreign, unwanted = self._find_foreign(), self._leftovers()
            due = unwanted & self._seen
            if not dry_run:
                for leftover in due:
                    LOG.warning("Removing a leftover: %s of instance %s", leftover.kind, leftover.instance_uuid)
                    self._have_removed(leftover)
                self._seen = unwanted
                self._tell_of(foreign)
            ours = [msgspec.structs.replace(one, due=one in due) for one in sorted(unwanted, key=_order)]
            return ours + [Leftover(kind="foreign", what=what) for what in sorted(foreign)]

    def _find_foreign(self) -> set[str]:
        node = self._node
        return node.hypervisor.foreign() | node.storage.foreign() | node.network.foreign()

    def _tell_of(self, foreign: set[str]) -> None:
        """Once, of what is there for longer: something of ours may have been half made."""
        for what in sorted((foreign & self._foreign) - self._told):
            LOG.warning("This is not ours, and stays: %s", what)
        self._told = (self._told | self._foreign) & foreign
        self._foreign = foreign

    def look_after_arrivals(self) -> None:
        """Roll back where the other host has given up; it may have been unable to tell."""
        for row in self._node.journal.instances():
            uuid = row.record.instance.uuid
            incoming = None if self._node.journal.unfinished(uuid) else row.record.incoming
            if incoming is not None and is_given_up(self._node, incoming):
                self._incidents.migration_over(uuid)

    def look_for_evacuated(self) -> None:
        """What was taken from this host while it was believed dead is not its own. A cluster may not answer: later."""
        for row in self._node.journal.instances():
            uuid = row.record.instance.uuid
            try:
                if not self._node.journal.unfinished(uuid) and has_lost(self._node, row.record):
                    LOG.warning("Instance %s has been evacuated to another host", uuid)
                    self._incidents.evacuated(uuid)
            except StorageError as error:
                LOG.warning("It is not known whether instance %s is another host's: %s", uuid, error)

    def _leftovers(self) -> set[Leftover]:
        guests, disks = self._node.hypervisor.inspect(), self._node.storage.inspect()
        ports = self._node.network.inspect()
        wanted = self._node.journal.instance_uuids()  # read last: what was begun meanwhile is wanted
        plugged, busy = self._plugged(), self._busy()
        return {
            *(Leftover(kind="guest", instance_uuid=uuid) for uuid in guests - wanted),
            *(Leftover(kind="disk", instance_uuid=uuid) for uuid in disks - wanted),
            *(
                Leftover(kind="port", instance_uuid=one.instance_uuid, port_id=one.port_id)
                for one in ports
                if one.instance_uuid not in busy and (one.instance_uuid, one.port_id) not in plugged
            ),
        }

    def _plugged(self) -> set[tuple[str, str]]:
        """Ports of instances that run, each with its instance."""
        return {
            (row.record.instance.uuid, port.id)
            for row in self._node.journal.instances()
            if row.vm_state in _WITH_PORTS
            for port in row.record.instance.ports
        }

    def _busy(self) -> set[str]:
        """Instances that something is being done to: they may have any ports."""
        return {row.request.instance_uuid for row in self._node.journal.unfinished()}

    def _have_removed(self, leftover: Leftover) -> None:
        """In the instance's own lane: it may have come back, from another host, since it was looked at."""
        over = Event()
        self._submit(leftover.instance_uuid, partial(self._try_to_remove, leftover, over))
        over.wait(_REMOVED_WITHIN)

    def _try_to_remove(self, leftover: Leftover, over: Event) -> None:
        try:
            self._remove(leftover)
        except ComputeAgentError as error:
            LOG.warning("A leftover stays until the next look: %s", error)
        finally:
            over.set()

    def _remove(self, leftover: Leftover) -> None:
        if self._is_wanted(leftover):
            return
        if leftover.port_id is not None:
            self._node.network.unplug([leftover.port_id])
        elif leftover.kind == "disk":
            self._node.storage.delete(leftover.instance_uuid)
        else:
            guest = self._node.hypervisor.adopt(leftover.instance_uuid)
            if guest is not None:
                guest.kill()
            self._node.hypervisor.forget(leftover.instance_uuid)

    def _is_wanted(self, leftover: Leftover) -> bool:
        if leftover.port_id is None:
            return leftover.instance_uuid in self._node.journal.instance_uuids()
        is_plugged = (leftover.instance_uuid, leftover.port_id) in self._plugged()
        return is_plugged or leftover.instance_uuid in self._busy()


def _order(leftover: Leftover) -> tuple[str, str]:
    return leftover.instance_uuid, leftover.kind
