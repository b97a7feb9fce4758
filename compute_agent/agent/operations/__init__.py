"""Every operation of the agent, one subject a module."""

from compute_agent.agent.arrivals import POST, PRE, mover_of
from compute_agent.agent.operation import Operation
from compute_agent.agent.operations.boot import BOOT
from compute_agent.agent.operations.copies import BACKUP, SNAPSHOT
from compute_agent.agent.operations.disk_changes import EXTEND_VOLUME, SET_DISK_QOS
from compute_agent.agent.operations.evacuate import EVACUATE, EVACUATED
from compute_agent.agent.operations.incoming import (
    POST_LIVE_MIGRATION,
    POST_STOPPED,
    PRE_FILES,
    PRE_LIVE_MIGRATION,
    ROLLBACK_LIVE_MIGRATION,
    START_AT_DESTINATION,
)
from compute_agent.agent.operations.interfaces import ATTACH_INTERFACE, DETACH_INTERFACE
from compute_agent.agent.operations.layers import (
    VOLUME_SNAPSHOT_CREATE,
    VOLUME_SNAPSHOT_DELETE,
    VOLUME_SNAPSHOT_REVERT,
)
from compute_agent.agent.operations.live_migration import LIVE_MIGRATION
from compute_agent.agent.operations.migrate import MIGRATE, MIGRATE_RUNNING
from compute_agent.agent.operations.power import DISK_ERROR, GUEST_EXIT, PAUSE, RESUME_PAUSED, START, STOP, UNPAUSE
from compute_agent.agent.operations.reboot import HARD_REBOOT, HOST_BOOT, SOFT_REBOOT
from compute_agent.agent.operations.reconnect import RECONNECT_DISKS
from compute_agent.agent.operations.restore import RESTORE
from compute_agent.agent.operations.suspend import RESUME, SUSPEND
from compute_agent.agent.operations.terminate import TERMINATE
from compute_agent.agent.operations.volumes import ATTACH_VOLUME, DETACH_VOLUME
from compute_agent.agent.request import Request
from compute_agent.instance.state import VmState

_BY_NAME = {
    operation.name: operation
    for operation in (
        *(BOOT, START, STOP, PAUSE, UNPAUSE, SUSPEND, RESUME, TERMINATE),
        *(GUEST_EXIT, DISK_ERROR, RECONNECT_DISKS, HOST_BOOT),
        *(SNAPSHOT, BACKUP, RESTORE),
        *(MIGRATE, EVACUATE, EVACUATED),
        *(LIVE_MIGRATION, PRE_LIVE_MIGRATION, START_AT_DESTINATION, POST_LIVE_MIGRATION, ROLLBACK_LIVE_MIGRATION),
        *(VOLUME_SNAPSHOT_CREATE, VOLUME_SNAPSHOT_DELETE, VOLUME_SNAPSHOT_REVERT),
        *(ATTACH_VOLUME, DETACH_VOLUME, EXTEND_VOLUME, SET_DISK_QOS),
        *(ATTACH_INTERFACE, DETACH_INTERFACE),
    )
}


def operation_names() -> set[str]:
    """Of all that there are."""
    return {*_BY_NAME, HARD_REBOOT.name}


def operation_of(request: Request, vm_state: VmState) -> Operation:
    """The operation that a request asks for, about an instance in that state."""
    if request.operation == "resume" and vm_state is VmState.PAUSED:
        return RESUME_PAUSED
    if request.operation == "reboot":
        return HARD_REBOOT if request.arguments.get("reboot_type") == "HARD" else SOFT_REBOOT
    if request.operation == MIGRATE.name and vm_state is VmState.ACTIVE and request.arguments.get("stop"):
        return MIGRATE_RUNNING
    return _of_files(request, vm_state) or _BY_NAME[request.operation]


def _of_files(request: Request, vm_state: VmState) -> Operation | None:
    """What becomes of one that files come in of first; None: it is about something else."""
    if request.operation == PRE and (mover_of(request).is_stopped or mover_of(request).has_lower_files):
        return PRE_FILES
    return POST_STOPPED if request.operation == POST and vm_state is VmState.STOPPED else None
