"""restore: the disks of a stopped instance become what they were when a backup was made."""

from __future__ import annotations

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.layer_records import refuse_layers
from compute_agent.agent.work import Work
from compute_agent.instance.device_names import find_device
from compute_agent.instance.state import VmState


def prepare_disks(work: Work) -> None:
    """They are complete, beside those that the instance has."""
    for disk in work.node.storage.copies.get_backup(_backup_id(work)).disks:
        if (device := find_device(work.instance, disk.name)) is not None:
            refuse_layers(device, "backup_id", "restore_instance")
    work.node.storage.copies.prepare_restore(work.instance, _backup_id(work), work.report)


def discard_disks(work: Work) -> None:
    """Nothing is beside them any more."""
    work.node.storage.copies.finish_restore(work.instance)


def abandon_disks(work: Work) -> None:
    """The same; but what the instance had is not lost where it could not be given back before."""
    exchange_disks_back(work)
    discard_disks(work)


def exchange_disks(work: Work) -> None:
    """The instance has them; those that it had are kept."""
    work.node.storage.copies.exchange(work.instance, _backup_id(work))


def exchange_disks_back(work: Work) -> None:
    """The instance has those that it had."""
    work.node.storage.copies.exchange_back(work.instance)


def _backup_id(work: Work) -> str:
    return str(work.request.arguments["backup_id"])


RESTORE = Operation(
    name="restore",
    allowed=frozenset({VmState.STOPPED}),
    steps=(
        Step("prepare_disks", prepare_disks, abandon_disks),
        Step("exchange_disks", exchange_disks, exchange_disks_back),
        Step("discard_disks", discard_disks),
    ),
    outcome="unchanged",
)
