"""suspend and resume: memory goes to disk and comes back.

Saved memory must never be loaded twice: the disks have moved on since. So the file is removed while the
loaded guest is still paused, before it runs its first instruction.
"""

from __future__ import annotations

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.steps import (
    KILL_GUEST,
    PLUG_PORTS,
    UNPLUG_PORTS,
    kill_guest,
    launch,
    pause_guest,
    resume_guest,
)
from compute_agent.agent.work import Work
from compute_agent.host.durable import part_of
from compute_agent.instance.state import PowerState, VmState


def save_memory(work: Work) -> None:
    """Write the paused guest's memory to its file."""
    work.guest.save(work.node.hypervisor.saved_state_path(work.uuid))


def discard_memory(work: Work) -> None:
    """Remove the file."""
    work.node.hypervisor.saved_state_path(work.uuid).unlink(missing_ok=True)


def discard_memory_of_living(work: Work) -> None:
    """Remove the file only while the guest it came from is there: else it is all that is left of it.

    Half of it is of no use to anybody.
    """
    part_of(work.node.hypervisor.saved_state_path(work.uuid)).unlink(missing_ok=True)
    if _is_held(work):
        discard_memory(work)


def resume_living(work: Work) -> None:
    """Let the guest go on, if it has not been ended."""
    if _is_held(work):
        resume_guest(work)


def _is_held(work: Work) -> bool:
    """The guest says so itself: one that was sent SIGKILL may still be a process, but it will not come back."""
    guest = work.node.find_guest(work.uuid)
    return guest is not None and guest.status() is PowerState.PAUSED


def load_memory(work: Work) -> None:
    """Start a process that holds the saved memory, paused."""
    launch(work, saved_state=work.node.hypervisor.saved_state_path(work.uuid))


SUSPEND = Operation(
    name="suspend",
    allowed=frozenset({VmState.ACTIVE}),
    steps=(
        Step("pause_guest", pause_guest, resume_living),
        Step("save_memory", save_memory, discard_memory_of_living),
        KILL_GUEST,
        UNPLUG_PORTS,
    ),
    outcome=VmState.SUSPENDED,
)

RESUME = Operation(
    name="resume",
    allowed=frozenset({VmState.SUSPENDED}),
    steps=(
        PLUG_PORTS,
        Step("load_memory", load_memory, kill_guest),
        Step("discard_memory", discard_memory),
        Step("resume_guest", resume_guest),
    ),
    outcome=VmState.ACTIVE,
)
