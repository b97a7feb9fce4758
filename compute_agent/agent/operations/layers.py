"""volume_snapshot_create, _delete and _revert: a disk gets a layer for what is written from now on, or loses one.

Whatever dies at whatever moment, the record names the layers that the disk's content is made of. So it gets a new one
before the guest writes to it, and forgets one when the disk is the same without it, and before the guest lets go of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.work import Work
from compute_agent.errors import DeadlineExceeded, HostError, InvalidMessage
from compute_agent.instance.block_device import BlockDevice
from compute_agent.instance.device_names import find_device
from compute_agent.instance.devices import Disk
from compute_agent.instance.model import Instance
from compute_agent.instance.state import VmState

LOG = logging.getLogger(__name__)

_STATES = frozenset({VmState.ACTIVE, VmState.STOPPED})
"""QEMU closes no descriptor while the guest is paused, and locks on disks are theirs."""

_LOOK = 1.0
"""Seconds between two looks at a commit that goes on."""


def check_new_layer(work: Work) -> None:
    """The disk can have it. Nothing is undone where it cannot: the layer may be one that it has."""
    device, layer = _device(work), _layer(work)
    if layer in device.layers:
        raise InvalidMessage("snapshot_id", layer, "the disk has such a snapshot already")
    work.node.storage.layers.check(work.instance, device)


def forget_marks(work: Work) -> None:
    """The next backup has no parent: the file that remembers what was written since then is not written to any more."""
    guest, device = work.node.find_guest(work.uuid), _device(work)
    if guest is not None:
        guest.copies.forget_marks(str(device.device_name), ())
    else:
        work.node.storage.layers.forget_marks(work.instance, device)


def make_layer(work: Work) -> None:
    """Its file is there, and empty."""
    work.node.storage.layers.make(work.instance, _device(work), _layer(work))


def take_layer_back(work: Work) -> None:
    """The disk is as it was, unless the guest writes to the layer: then it stays, to be deleted as any other."""
    guest, device = work.node.find_guest(work.uuid), _device(work)
    if guest is not None and guest.layers.writes_to(str(device.device_name), _layer(work)):
        LOG.warning("The guest writes to the new layer, so it stays")
        return
    if guest is None and _layer(work) in device.layers:
        # It may have written before it ended.
        work.node.storage.layers.commit(work.instance, device, _layer(work))
    _forget(work)
    delete_layer(work)


def note_layer(work: Work) -> None:
    """The record has it: a guest that starts from now on writes to it."""
    device = _device(work)
    if _layer(work) not in device.layers:
        _replace_layers(work, [*device.layers, _layer(work)])


def write_to_layer(work: Work) -> None:
    """This is the moment, for a guest that runs."""
    guest = work.node.find_guest(work.uuid)
    if guest is not None:
        with _disk(work) as disk:
            guest.layers.add(disk)


def commit_layer(work: Work) -> None:
    """What it holds is in what it stands on; the record has forgotten it while the disk is the same either way."""
    device, layer = _device(work), _layer(work)
    if layer not in device.layers:
        return  # of an agent that died in this step
    if work.node.find_guest(work.uuid) is None:
        work.node.storage.layers.commit(work.instance, device, layer)
    else:
        _commit_running(work, layer)
    _forget(work)


def _commit_running(work: Work, layer: str) -> None:
    with _disk(work) as disk:
        work.guest.layers.begin_commit(work.request.request_id, disk, layer)
    while (percent := work.guest.layers.progress(work.request.request_id, _LOOK)) < 100:
        work.report(percent)
        if work.hurried:
            raise HostError("given up, because the instance is to be terminated")


def abandon_commit(work: Work) -> None:
    """The disk keeps its layer."""
    guest, device, layer = work.node.find_guest(work.uuid), _device(work), _layer(work)
    if guest is not None:
        with _disk(work) as disk:
            guest.layers.abandon(work.request.request_id, disk)
        if layer not in device.layers and guest.layers.writes_to(str(device.device_name), layer):
            _replace_layers(work, [*device.layers, layer])


def let_go_of_layer(work: Work) -> None:
    """A guest that runs does without it. There is no way back: as long as it does not answer, it is asked again."""
    while (guest := work.node.find_guest(work.uuid)) is not None:
        try:
            with _disk(work) as disk:
                guest.layers.finish(work.request.request_id, disk, _layer(work))
        except DeadlineExceeded:
            if work.hurried:
                raise
            LOG.warning("The guest does not answer; its disk waits for the end of the commit")
        else:
            return


def delete_layer(work: Work) -> None:
    """Its file is gone; and where nothing runs and no layer is left, so is all that kept others away."""
    device = _device(work)
    work.node.storage.layers.delete(work.instance, device, _layer(work))
    if work.node.find_guest(work.uuid) is None:
        work.node.storage.disconnect_disk(work.uuid, device)


def empty_layer(work: Work) -> None:
    """The disk is what it was when its newest snapshot was made."""
    device, layer = _device(work), _layer(work)
    if layer != device.layers[-1]:
        raise InvalidMessage("snapshot_id", layer, f"later snapshots stand on it: delete {device.layers[-1]} first")
    work.node.storage.layers.empty(work.instance, device)
    work.node.storage.disconnect_disk(work.uuid, device)


def fold_layers(work: Work) -> None:
    """Volumes stay, with all that was written to them."""
    for device in work.instance.block_devices:
        if device.layers and device.source_type == "volume":
            work.node.storage.layers.fold(work.instance, device)


def refuse_layers(device: BlockDevice, field: str, verb: str) -> None:
    """:raises InvalidMessage: the disk has layers, with which the verb does not work."""
    if device.layers:
        reason = f"the disk has snapshots, such as {device.layers[-1]}: delete them before {verb}"
        raise InvalidMessage(field, device.device_name, reason)


def require_layer(instance: Instance, arguments: Mapping[str, object]) -> None:
    """:raises InvalidMessage: the disk that a request is about has no such layer."""
    if arguments["snapshot_id"] not in _find(instance, arguments).layers:
        raise InvalidMessage("snapshot_id", arguments["snapshot_id"], "the disk has no such snapshot")


def check_layer(work: Work) -> None:
    """The disk has it."""
    require_layer(work.instance, work.request.arguments)


@contextmanager
def _disk(work: Work) -> Iterator[Disk]:
    """As the record has it."""
    disk = work.node.storage.connect_disk(work.instance, _device(work))
    try:
        yield disk
    finally:
        disk.close()


def _device(work: Work) -> BlockDevice:
    return _find(work.instance, work.request.arguments)


def _find(instance: Instance, arguments: Mapping[str, object]) -> BlockDevice:
    reference = str(arguments["disk"])
    device = find_device(instance, reference)
    if device is None:
        raise InvalidMessage("disk", reference, "the instance has no such disk")
    return device


def _layer(work: Work) -> str:
    return str(work.request.arguments["snapshot_id"])


def _forget(work: Work) -> None:
    _replace_layers(work, [layer for layer in _device(work).layers if layer != _layer(work)])


def _replace_layers(work: Work, layers: Sequence[str]) -> None:
    old = _device(work)
    new = msgspec.structs.replace(old, layers=tuple(layers))
    devices = [new if device == old else device for device in work.instance.block_devices]
    work.change_instance(msgspec.structs.replace(work.instance, block_devices=devices), work.record.machine)


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
    allowed=frozenset({VmState.STOPPED}),
    steps=(_CHECK, Step("empty_layer", empty_layer)),
    outcome="unchanged",
)
