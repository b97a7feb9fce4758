"""Steps that several operations share. Each may be repeated."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from compute_agent.agent.operation import Step
from compute_agent.agent.work import Work
from compute_agent.errors import DeadlineExceeded, DiskInUse, GuestGone, GuestStartFailed, StorageError
from compute_agent.instance.state import PowerState
from compute_agent.virt.contract import Guest, StartRequest

LOG = logging.getLogger(__name__)

T = TypeVar("T")

_ASK_AGAIN = 0.5
"""Seconds, for disks whose cluster does not answer."""

BUTTON_INTERVAL = 10.0
"""Seconds between two presses of the power button: a system that is still booting misses the first."""

HURRY_INTERVAL = 1.0
"""Seconds after which a waiting step sees that somebody wants the instance gone."""


HANDSHAKE = 10.0
"""Seconds after which qemu-storage-daemon hangs up on a process that has not begun to talk (CVE-2024-7409)."""


def plug_ports(work: Work) -> None:
    """Make the taps and put them on their bridges."""
    work.plug_ports()


def unplug_ports(work: Work) -> None:
    """Take the ports off and let the taps go."""
    work.close()
    work.node.network.unplug(work.port_ids)


def launch(work: Work, saved_state: Path | None = None, *, is_incoming: bool = False) -> None:
    """Start the guest: from the start, from saved memory, or for the memory that another host sends.

    Ports are plugged where they are not. A guest that an agent started before it died has its ports, and they cannot be
    plugged a second time.

    :raises DiskInUse: the instance is another host's by now.
    """
    if not is_incoming and work.node.storage.moves.is_lost(work.instance, work.record.epoch):
        raise DiskInUse(f"instance {work.uuid} has been evacuated to another host")
    began = time.monotonic()
    try:
        _launch(work, saved_state, is_incoming=is_incoming)
    except GuestStartFailed as error:
        if time.monotonic() - began < HANDSHAKE:
            raise
        LOG.warning("The guest is started once more, for block servers do not wait as long as this took: %s", error)
        with work.node.second_start:
            _launch(work, saved_state, is_incoming=is_incoming)


def _launch(work: Work, saved_state: Path | None, *, is_incoming: bool) -> None:
    """A process that a killed agent has started, and that goes on, has its ports and disks. A block server accepts no
    other connection beside its guest's: each agent would leave one that waits, and soon there is no room for more."""
    is_new = _find_unended(work) is None
    nics = work.plug_ports() if is_new else ()
    disks = work.node.storage.connect(work.instance, vhost_user=work.takes_vhost_user) if is_new else ()
    try:
        request = StartRequest(
            instance=work.instance,
            machine=work.machine,
            disks=disks,
            nics=nics,
            boot=work.node.storage.boot_files(work.instance),
            saved_state=saved_state,
            is_incoming=is_incoming,
        )
        work.node.journal.set_host_boot(work.uuid, work.node.boot_id)
        work.node.guests[work.uuid] = work.node.hypervisor.start(request)
    finally:
        for disk in disks:
            disk.close()
    work.close()


def _find_unended(work: Work) -> Guest | None:
    """One that has run to its end since it was started is no use any more."""
    guest = work.node.find_guest(work.uuid)
    if guest is None or guest.status() not in (PowerState.SHUTDOWN, PowerState.CRASHED):
        return guest
    _end_process(work, guest)
    return None


def _end_process(work: Work, guest: Guest) -> None:
    guest.kill()
    work.node.guests.pop(work.uuid, None)


def start_guest(work: Work) -> None:
    """Start the guest and note the time. Memory that was saved before is void: the disks are about to move on."""
    work.node.hypervisor.saved_state_path(work.uuid).unlink(missing_ok=True)
    launch(work)
    work.node.journal.set_launched(work.uuid)


def until_disks_answer(work: Work, ask: Callable[[], T]) -> T:
    """What comes of it; their cluster is waited for, unless the instance is to be terminated."""
    while True:
        try:
            return ask()
        except (StorageError, DeadlineExceeded) as error:
            if work.hurried:
                raise
            LOG.warning("The guest waits for its disks: %s", error)
            time.sleep(_ASK_AGAIN)


def kill_guest(work: Work) -> None:
    """End the guest's process, if there is one, and let go of its disks."""
    guest = work.node.find_guest(work.uuid)
    if guest is not None:
        _end_process(work, guest)
    work.node.storage.disconnect(work.uuid)


def pause_guest(work: Work) -> None:
    """Stop the vCPUs."""
    work.guest.pause()


def resume_guest(work: Work) -> None:
    """Let the vCPUs run."""
    work.guest.resume()


def ask_to_shut_down(work: Work) -> bool:
    """Press the power button until the guest is off: True, or False when its time is up."""
    guest = work.node.find_guest(work.uuid)
    deadline = time.monotonic() + shutdown_timeout(work)
    pressed = -math.inf
    while guest is not None and not work.hurried and (left := deadline - time.monotonic()) > 0:
        if time.monotonic() - pressed >= BUTTON_INTERVAL:
            pressed = time.monotonic()
            _press_power_button(guest)
        if guest.wait_for_shutdown(min(left, HURRY_INTERVAL)):
            return True
    return guest is None


def _press_power_button(guest: Guest) -> None:
    """A monitor that does not answer is no reason to stop waiting: the guest may be slow, not stuck."""
    try:
        guest.press_power_button()
    except (DeadlineExceeded, GuestGone) as error:
        LOG.warning("The power button could not be pressed: %s", error)


def shutdown_timeout(work: Work) -> float:
    """Seconds: what the request says, else the agent's default."""
    timeout = work.request.arguments.get("timeout")
    return float(timeout) if isinstance(timeout, int | float) else work.node.settings.shutdown_timeout


PLUG_PORTS = Step("plug_ports", plug_ports, unplug_ports)
START_GUEST = Step("start_guest", start_guest, kill_guest)
KILL_GUEST = Step("kill_guest", kill_guest)
UNPLUG_PORTS = Step("unplug_ports", unplug_ports)
