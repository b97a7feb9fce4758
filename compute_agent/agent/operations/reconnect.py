"""reconnect_disks: a guest whose block server died gets another one, and goes on with what it was writing."""

from __future__ import annotations

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.work import Work
from compute_agent.instance.state import LIVING, PowerState, VmState


def reconnect_disks(work: Work) -> None:
    """Each disk that a block server serves gets a connection to the new one."""
    for disk in work.node.storage.connect(work.instance, vhost_user=work.takes_vhost_user):
        try:
            if disk.is_served:
                work.guest.reconnect_disk(disk)
        finally:
            disk.close()


def go_on(work: Work) -> None:
    """A guest that was held up by it goes on; one that somebody has paused stays so."""
    row = work.node.journal.instance(work.uuid)
    held_up = row.vm_state is VmState.ACTIVE or row.fault is not None
    if held_up and work.guest.status() is PowerState.PAUSED:
        work.guest.resume()


RECONNECT_DISKS = Operation(
    name="reconnect_disks",
    allowed=LIVING,
    steps=(Step("reconnect_disks", reconnect_disks), Step("go_on", go_on)),
    outcome="observed",
)
