"""reboot: SOFT keeps the guest's process, HARD makes a new one; and what follows when the host itself was booted."""

from __future__ import annotations

import logging

from compute_agent.agent.evacuees import has_lost
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.steps import (
    KILL_GUEST,
    PLUG_PORTS,
    START_GUEST,
    UNPLUG_PORTS,
    ask_to_shut_down,
    kill_guest,
    unplug_ports,
    until_disks_answer,
)
from compute_agent.agent.work import Work
from compute_agent.errors import MigrationRefused
from compute_agent.instance.state import PowerState, VmState

LOG = logging.getLogger(__name__)


def bring_down(work: Work) -> None:
    """The guest's system has shut down; or it is halted, because its time was up.

    Halted, so that the next step can tell a guest that still has to be reset (not running) from one that an
    agent has reset before it died (running): a guest is never reset twice.
    """
    if not ask_to_shut_down(work):
        LOG.warning("The guest did not shut down in time: resetting it")
        work.guest.pause()


def put_back(work: Work) -> None:
    """Let a halted guest go on; put away one that has shut down, for it will not come back by itself."""
    if work.guest.status() is PowerState.SHUTDOWN:
        kill_guest(work)
        unplug_ports(work)
    else:
        work.guest.resume()


def reset_guest(work: Work) -> None:
    """Start the guest's system anew in the same machine."""
    if work.guest.status() is not PowerState.RUNNING:
        work.guest.reset()


def require_ownership(work: Work) -> None:
    """No other host has taken it while this one was down. The cluster of its disks, which knows, is waited for.

    :raises MigrationRefused: one has; what is here of it is cleared away when somebody looks for that.
    """
    if until_disks_answer(work, lambda: has_lost(work.node, work.record)):
        raise MigrationRefused("instance", "it has been evacuated to another host")


SOFT_REBOOT = Operation(
    name="reboot",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(Step("bring_down", bring_down, put_back), Step("reset_guest", reset_guest)),
    outcome=VmState.ACTIVE,
)

HARD_REBOOT = Operation(
    name="reboot",
    allowed=frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED}),
    steps=(KILL_GUEST, UNPLUG_PORTS, PLUG_PORTS, START_GUEST),
    outcome=VmState.ACTIVE,
)

HOST_BOOT = Operation(
    name="host_boot",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(Step("require_ownership", require_ownership), *HARD_REBOOT.steps),
    outcome=VmState.ACTIVE,
)
"""The guest ran when the host went down: it runs again."""
