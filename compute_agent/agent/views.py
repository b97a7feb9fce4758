"""What an instance is: what the journal has of it, and what its guest says now."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from compute_agent.agent.journal import InstanceRow, OperationRow
from compute_agent.agent.node import Node
from compute_agent.instance.state import LIVING, PowerState, VmState
from compute_agent.instance.view import InstanceView
from compute_agent.virt.contract import Guest

PATIENCE = 1.0
"""Seconds that a question about an instance waits for its guest: the one who asks has other instances too."""
ASKED_AT_ONCE = 32
"""Guests, where all are asked: those that do not answer are not waited for one after the other."""

_POWER_WITHOUT_PROCESS = {VmState.SUSPENDED: PowerState.SUSPENDED, VmState.STOPPED: PowerState.SHUTDOWN}


def view_of(node: Node, instance_uuid: str) -> InstanceView:
    """:raises InstanceNotFound: no such instance."""
    with node.journal.unchanging():
        row, unfinished = node.journal.instance(instance_uuid), node.journal.unfinished(instance_uuid)
    return _view(node, row, unfinished)


def views_of_all(node: Node) -> list[InstanceView]:
    """Of all instances of this host, oldest first."""
    with node.journal.unchanging():
        rows, unfinished = node.journal.instances(), node.journal.unfinished()
    tasks = [[one for one in unfinished if one.request.instance_uuid == row.record.instance.uuid] for row in rows]
    with ThreadPoolExecutor(ASKED_AT_ONCE, "view") as pool:
        return list(pool.map(partial(_view, node), rows, tasks))


def _view(node: Node, row: InstanceRow, unfinished: list[OperationRow]) -> InstanceView:
    guest = _guest_of(node, row, busy=bool(unfinished))
    power = guest.status(PATIENCE) if guest else _POWER_WITHOUT_PROCESS.get(row.vm_state, PowerState.NOSTATE)
    crashed = row.fault is not None and row.vm_state is VmState.STOPPED
    return InstanceView(
        instance=row.record.instance,
        host=node.settings.host,
        vm_state=row.vm_state,
        power_state=PowerState.CRASHED if crashed else power,
        task=unfinished[0].request.operation if unfinished else None,
        fault=row.fault,
        machine=row.record.machine,
        epoch=row.record.epoch,
        pid=guest.pid if guest else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        launched_at=row.launched_at,
    )


def _guest_of(node: Node, row: InstanceRow, *, busy: bool) -> Guest | None:
    """Also where this agent has only just started and did not look for it yet; not one that is being made."""
    instance_uuid = row.record.instance.uuid
    known = node.guests.get(instance_uuid)
    if known is None and row.vm_state in LIVING and not busy:
        return node.hypervisor.adopt(instance_uuid)
    return known
