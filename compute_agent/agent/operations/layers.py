"""volume_snapshot_create, _delete and _revert: a disk gets a layer for what is written from now on, or loses one.

Whatever dies at whatever moment, the record names the layers that the disk's content is made of. So it gets a new one
before the guest writes to it, and forgets one when the disk is the same without it, and before the guest lets go of it.
"""

from __future__ import annotations

import logging

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.layer_records import (
    device_of,
    forget_layer,
    layer_of,
    open_disk,
    replace_layers,
    require_layer,
)
from compute_agent.agent.work import Work
from compute_agent.errors import DeadlineExceeded, GuestGone, HostError, InvalidMessage
from compute_agent.instance.state import VmState

LOG = logging.getLogger(__name__)

_NOT_RUNNING = frozenset({VmState.STOPPED})
_STATES = frozenset({VmState.ACTIVE}) | _NOT_RUNNING
"""QEMU closes no descriptor while the guest is paused, and locks on disks are theirs."""

_LOOK = 1.0
"""Seconds between two looks at a commit that goes on."""


def check_new_layer(work: Work) -> None:
    """The disk can have it. Nothing is undone where it cannot: the layer may be one that it has."""
    device, layer = device_of(work), layer_of(work)
    if layer in device.layers:
        raise InvalidMessage("snapshot_id", layer, "the disk has such a snapshot already")
    work.node.storage.layers.check(work.instance, device)


def forget_marks(work: Work) -> None:
    """The next backup has no parent: the file that remembers what was written since then is not written to any more."""
    disks, device = work.find_open_disks(), device_of(work)
    if disks is not None:
        disks.copies.forget_marks(str(device.device_name), ())
    else:
        work.node.storage.layers.forget_marks(work.instance, device)


def make_layer(work: Work) -> None:
    """Its file is there, and empty."""
    work.node.storage.layers.make(work.instance, device_of(work), layer_of(work))


def take_layer_back(work: Work) -> None:
    """The disk is as it was, unless the guest writes to the layer: then it stays, to be deleted as any other."""
    disks, device = work.find_open_disks(), device_of(work)
    if disks is not None and disks.layers.writes_to(str(device.device_name), layer_of(work)):
        LOG.warning("The guest writes to the new layer, so it stays")
        return
    if disks is None and layer_of(work) in device.layers:
        # It may have written before it ended.
        work.node.storage.layers.commit(work.instance, device, layer_of(work))
    forget_layer(work)
    delete_layer(work)


def note_layer(work: Work) -> None:
    """The record has it: a guest that starts from now on writes to it."""
    device = device_of(work)
    if layer_of(work) not in device.layers:
        replace_layers(work, [*device.layers, layer_of(work)])


def write_to_layer(work: Work) -> None:
    """This is the moment, for a guest that runs."""
    disks = work.find_open_disks()
    if disks is not None:
        with open_disk(work) as disk:
            disks.layers.add(disk)


def commit_layer(work: Work) -> None:
    """What it holds is in what it stands on; the record has forgotten it while the disk is the same either way."""
    device, layer = device_of(work), layer_of(work)
    if layer not in device.layers:
        return  # of an agent that died in this step
    if work.find_open_disks() is None:
        work.node.storage.layers.commit(work.instance, device, layer)
    else:
        _commit_running(work, layer)
    forget_layer(work)


def _commit_running(work: Work, layer: str) -> None:
    layers = work.open_disks.layers
    with open_disk(work) as disk:
        layers.begin_commit(work.request.request_id, disk, layer)
    while (percent := layers.progress(work.request.request_id, _LOOK)) < 100:
        work.report(percent)
        if work.hurried:
            raise HostError("given up, because the instance is to be terminated")


def abandon_commit(work: Work) -> None:
    """The disk keeps its layer."""
    disks, device, layer = work.find_open_disks(), device_of(work), layer_of(work)
    if disks is not None:
        with open_disk(work) as disk:
            disks.layers.abandon(work.request.request_id, disk)
        if layer not in device.layers and disks.layers.writes_to(str(device.device_name), layer):
            replace_layers(work, [*device.layers, layer])


def let_go_of_layer(work: Work) -> None:
    """A guest that runs does without it. There is no way back: as long as it does not answer, it is asked again.

    One that ends meanwhile has let go of it, too.
    """
    while (disks := work.find_open_disks()) is not None:
        try:
            with open_disk(work) as disk:
                disks.layers.finish(work.request.request_id, disk, layer_of(work))
        except GuestGone:
            return
        except DeadlineExceeded:
            if work.hurried:
                raise
            LOG.warning("The guest does not answer; its disk waits for the end of the commit")
        else:
            return


def delete_layer(work: Work) -> None:
    """Its file is gone; and where nothing runs and no layer is left, so is all that kept others away."""
    device = device_of(work)
    work.node.storage.layers.delete(work.instance, device, layer_of(work))
    if work.find_open_disks() is None and work.node.find_guest(work.uuid) is None:
        work.node.storage.disconnect_disk(work.uuid, device)


def empty_layer(work: Work) -> None:
    """The disk is what it was when its newest snapshot was made."""
    device, layer = device_of(work), layer_of(work)
    if layer != device.layers[-1]:
        raise InvalidMessage("snapshot_id", layer, f"later snapshots stand on it: delete {device.layers[-1]} first")
    work.node.storage.layers.empty(work.instance, device)
    work.node.storage.disconnect_disk(work.uuid, device)


def fold_layers(work: Work) -> None:
    """Volumes stay, with all that was written to them."""
    for device in work.instance.block_devices:
        if device.layers and device.source_type == "volume":
            work.node.storage.layers.fold(work.instance, device)


def check_layer(work: Work) -> None:
    """The disk has it."""
    require_layer(work.instance, work.request.arguments)


_CHECK = Step("check_layer", check_layer)

VOLUME_SNAPSHOT_CREATE = Operation(
    name="volume_snapshot_create",
    allowed=_STATES,
    steps=(
        Step("check_layer", check_new_layer),
        Step("forget_marks", forget_marks),
        Step("make_layer", make_layer, take_layer_back),
        Step("note_layer", note_layer),
        Step("write_to_layer", write_to_layer),
    ),
    outcome="unchanged",
)

VOLUME_SNAPSHOT_DELETE = Operation(
    name="volume_snapshot_delete",
    allowed=_STATES,
    steps=(
        _CHECK,
        Step("commit_layer", commit_layer, abandon_commit),
        Step("let_go_of_layer", let_go_of_layer),
        Step("delete_layer", delete_layer),
    ),
    outcome="unchanged",
)

VOLUME_SNAPSHOT_REVERT = Operation(
    name="volume_snapshot_revert",
    allowed=_NOT_RUNNING,
    steps=(_CHECK, Step("empty_layer", empty_layer)),
    outcome="unchanged",
)
