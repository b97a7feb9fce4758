"""snapshot and backup: an instance's disks are copied as they are at one moment, whether or not its guest runs.

Whoever has a running guest's disks open copies them, in jobs that an agent's death does not end. From a backup's moment
on its disks remember what is written to them, so that the next backup need not hold more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import msgspec

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.copy_order import order_of
from compute_agent.agent.work import Work
from compute_agent.block.copies import DiskCopy
from compute_agent.errors import ComputeAgentError, HostError, InvalidMessage, InvalidState
from compute_agent.instance.devices import NbdSource
from compute_agent.instance.state import LIVING, PowerState, VmState
from compute_agent.storage.copies.contract import CopyOrder

_NOT_RUNNING = frozenset({VmState.STOPPED})
_STATES = LIVING | _NOT_RUNNING
"""Whoever has no disk open cannot copy any."""

_LOOK = 1.0
"""Seconds between two looks at copies that are being made."""


def prepare_targets(work: Work) -> None:
    """The files to copy to are there, and empty."""
    order = order_of(work)
    if order.parent is not None:
        _require_marks(work, order)
    work.node.storage.copies.prepare(order)


def discard_targets(work: Work) -> None:
    """They are gone."""
    work.node.storage.copies.discard(order_of(work))


def begin_copies(work: Work) -> None:
    """This is the moment, for a guest that runs."""
    order = order_of(work)
    if order.is_direct:
        _take_moment(work, order)
    elif _is_running(work):
        with _copies(work, order) as copies:
            frozen = work.open_disks.copies.begin(work.request.request_id, copies)
        if frozen:
            work.node.storage.copies.note_frozen(order)


def _take_moment(work: Work, order: CopyOrder) -> None:
    """Once: it is not known any more whether file systems were frozen for what an agent did that was killed then."""
    store = work.node.storage.copies
    if store.has_moment(order):
        return
    if _is_running(work):
        frozen = work.open_disks.copies.at_one_moment(lambda: store.take_moment(order))
    else:
        store.take_moment(order)
        frozen = True  # nobody has anything mounted
    if frozen:
        store.note_frozen(order)


def abandon_copies(work: Work) -> None:
    """Nothing is copied any more, and the disks remember only what they did before."""
    order, disks, guest = order_of(work), work.find_open_disks(), work.node.find_guest(work.uuid)
    if disks is None:
        if guest is None:  # else its block server has ended, and the next one knows nothing of a copy
            work.node.storage.copies.forget_mark(order)
        return
    disks.copies.end()
    for disk in _marked(order):
        disks.copies.forget_marks(disk, disks.copies.marks(disk) - {order.copy_id})
    if guest is not None and _state(work) is VmState.ACTIVE and guest.status() is PowerState.PAUSED:
        # What it writes may wait until the copy has what was there before: a target that is full has held it up.
        guest.resume()


def await_copies(work: Work) -> None:
    """All is copied."""
    order = order_of(work)
    if order.is_direct or not _is_running(work):
        work.node.storage.copies.copy(order, work.report)
        return
    copies = work.open_disks.copies
    while (percent := copies.progress(work.request.request_id, _LOOK)) < 100:
        work.report(percent)
        if work.hurried:
            raise HostError("given up, because the instance is to be terminated")


def release_copies(work: Work) -> None:
    """The guest's process lets go of them."""
    if _is_running(work):
        work.open_disks.copies.end()


def keep_copies(work: Work) -> None:
    """They have their name."""
    work.node.storage.copies.keep(order_of(work), work.report)


def take_copies_back(work: Work) -> None:
    """They have none."""
    work.node.storage.copies.take_back(order_of(work))


def forget_older_marks(work: Work) -> None:
    """The next incremental backup stands on this one."""
    order = order_of(work)
    if not _is_running(work):
        work.node.storage.copies.forget_older_marks(order)
        return
    for disk in _marked(order):
        work.open_disks.copies.forget_marks(disk, {order.copy_id})


def snapshot_made(work: Work) -> Mapping[str, object]:
    """What the controller is told of it."""
    snapshot = work.node.storage.copies.get_snapshot(order_of(work).copy_id)
    return dict(msgspec.to_builtins(snapshot))


def backup_made(work: Work) -> Mapping[str, object]:
    """What the controller is told of it."""
    return dict(msgspec.to_builtins(work.node.storage.copies.get_backup(order_of(work).copy_id)))


@contextmanager
def _copies(work: Work, order: CopyOrder) -> Iterator[list[DiskCopy]]:
    """Each with its target, open for as long as it takes to hand them over."""
    mark, copies = order.copy_id if order.kind == "backup" else None, []
    with ExitStack() as opened:
        for disk in (str(device.device_name) for device in order.devices):
            target = work.node.storage.copies.open(order, disk)
            if isinstance(target, NbdSource):
                opened.enter_context(_handed_over(target))
            copies.append(DiskCopy(disk=disk, target=target, since=order.parent, mark=mark))
        yield copies


@contextmanager
def _handed_over(target: NbdSource) -> Iterator[None]:
    """A server that says nothing must not keep the guest's process waiting, which does nothing else meanwhile."""
    try:
        yield
    except ComputeAgentError:
        target.cut()
        raise
    finally:
        target.close()


def _marked(order: CopyOrder) -> list[str]:
    """The disks that remember what is written to them."""
    return [str(device.device_name) for device in order.devices] if order.kind == "backup" else []


def _require_marks(work: Work, order: CopyOrder) -> None:
    """An incremental backup can be made: the disks remember what was written since its parent."""
    if not _is_running(work):
        needed = " or ".join(sorted(LIVING))
        raise InvalidState(work.uuid, "an incremental backup", VmState.STOPPED, needed)
    for disk in _marked(order):
        if order.parent not in work.open_disks.copies.marks(disk):
            reason = "it is not known what was written since then: a parent is the last backup; make one without parent"
            raise InvalidMessage("parent", order.parent, f"{disk}: {reason}")


def _is_running(work: Work) -> bool:
    """By its state: a guest that has ended meanwhile is an error, and no reason to copy its disks as they are now."""
    return _state(work) in LIVING


def _state(work: Work) -> VmState:
    return work.node.journal.instance(work.uuid).vm_state


_MAKING = (
    Step("prepare_targets", prepare_targets, discard_targets),
    Step("begin_copies", begin_copies, abandon_copies),
    Step("await_copies", await_copies),
    Step("release_copies", release_copies),
    Step("keep_copies", keep_copies, take_copies_back),
)

SNAPSHOT = Operation(
    name="snapshot",
    allowed=_STATES,
    steps=_MAKING,
    outcome="unchanged",
    result=snapshot_made,
)

BACKUP = Operation(
    name="backup",
    allowed=_STATES,
    steps=(*_MAKING, Step("forget_older_marks", forget_older_marks)),
    outcome="unchanged",
    result=backup_made,
)
