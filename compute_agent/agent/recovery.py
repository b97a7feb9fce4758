"""What an agent does first: find the guests again, and go on with what the last agent left unfinished."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from compute_agent.agent.incidents import Incidents
from compute_agent.agent.journal import InstanceRow
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.node import Node
from compute_agent.agent.request import Request
from compute_agent.instance.state import LIVING, PowerState, VmState
from compute_agent.virt.contract import DiskFailure, GuestExit

LOG = logging.getLogger(__name__)


def recover(node: Node, lanes: Lanes, enqueue: Callable[[Request], None], incidents: Incidents) -> None:
    """Queue everything, ahead of any new request for the same instance; the work itself goes on side by side."""
    for operation in node.journal.unfinished():
        enqueue(operation.request)
    for row in node.journal.instances():
        uuid = row.record.instance.uuid
        lanes.submit(uuid, partial(_adopt, node, uuid, incidents))


def _is_lost(node: Node, row: InstanceRow) -> bool:
    """The process that waited for a guest of another host is gone."""
    incoming = row.record.incoming
    waits = incoming is not None and not incoming.is_stopped
    return waits and row.vm_state is VmState.INCOMING and node.find_guest(row.record.instance.uuid) is None


def _is_to_run_again(node: Node, row: InstanceRow) -> bool:
    """It ran when the host went down. What a paused one had in its memory is lost: that is for a person to look at."""
    was_booted = row.host_boot is not None and row.host_boot != node.boot_id
    return was_booted and row.vm_state is VmState.ACTIVE and node.settings.start_guests_at_boot


def _adopt(node: Node, instance_uuid: str, incidents: Incidents) -> None:
    """After what was unfinished: it may have had nothing more to do with the guest."""
    row = node.journal.find_instance(instance_uuid)
    if row is not None and _is_lost(node, row):
        incidents.migration_over(instance_uuid)
    if row is None or row.vm_state not in LIVING:
        return
    guest = node.find_guest(instance_uuid)
    if guest is None and _is_to_run_again(node, row):
        incidents.host_booted(instance_uuid)
    elif guest is None:
        detail = "its process was gone when the agent started"
        incidents.guest_exited(GuestExit(instance_uuid=instance_uuid, reason="crashed", detail=detail))
    elif guest.status() is PowerState.SHUTDOWN:
        detail = "it powered itself off while no agent was there"
        incidents.guest_exited(GuestExit(instance_uuid=instance_uuid, reason="powered_off", detail=detail))
    elif guest.status() is PowerState.PAUSED and row.vm_state is VmState.ACTIVE:
        detail = "it was held up when the agent started"  # by a disk: only that pauses a guest that nobody paused
        incidents.disk_failed(DiskFailure(instance_uuid=instance_uuid, disk="a disk", reason="io_error", detail=detail))
        incidents.disks_cut_off(instance_uuid)
    else:
        LOG.info("Adopted the running guest of instance %s", instance_uuid)
        incidents.disks_cut_off(instance_uuid)
