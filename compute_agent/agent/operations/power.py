"""start, stop, pause, unpause, and what follows when a guest ends, or is held up, by itself."""

from __future__ import annotations

import logging

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.steps import (
    KILL_GUEST,
    PLUG_PORTS,
    START_GUEST,
    UNPLUG_PORTS,
    ask_to_shut_down,
    kill_guest,
    pause_guest,
    resume_guest,
)
from compute_agent.agent.work import Work
from compute_agent.instance.state import LIVING, VmState

LOG = logging.getLogger(__name__)


def shut_down(work: Work) -> None:
    """The guest's system shuts down, or is forced off when its time is up."""
    if not ask_to_shut_down(work):
        LOG.warning("The guest did not shut down in time: forcing it off")
    kill_guest(work)


START = Operation(
    name="start",
    allowed=frozenset({VmState.STOPPED}),
    steps=(PLUG_PORTS, START_GUEST),
    outcome=VmState.ACTIVE,
)

STOP = Operation(
    name="stop",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(Step("shut_down", shut_down), UNPLUG_PORTS),
    outcome=VmState.STOPPED,
)

PAUSE = Operation(
    name="pause",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(Step("pause_guest", pause_guest, resume_guest),),
    outcome=VmState.PAUSED,
)

UNPAUSE = Operation(
    name="unpause",
    allowed=frozenset({VmState.PAUSED}),
    steps=(Step("resume_guest", resume_guest),),
    outcome=VmState.ACTIVE,
)

RESUME_PAUSED = Operation(
    name="resume",
    allowed=frozenset({VmState.PAUSED}),
    steps=(Step("resume_guest", resume_guest),),
    outcome=VmState.ACTIVE,
)
"""After a disk was full or failing, a person resumes; the guest has its memory, and tries what failed again."""

DISK_ERROR = Operation(
    name="disk_error",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(),
    outcome=VmState.PAUSED,
)
"""The guest has been stopped by its hypervisor already: the journal and the controller get to know it."""

GUEST_EXIT = Operation(
    name="guest_exit",
    allowed=LIVING,
    steps=(KILL_GUEST, UNPLUG_PORTS),
    outcome=VmState.STOPPED,
)
