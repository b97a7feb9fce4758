"""evacuate: an instance of a host that is dead comes here, with its disks in Ceph. evacuated: one has gone from here.

What may still run on the other host can write to nothing from the step `claim_disks` on.
"""

from __future__ import annotations

from compute_agent.agent.evacuees import EVACUATE as NAME
from compute_agent.agent.evacuees import evacuee_of
from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import create_disks, forget_guest
from compute_agent.agent.operations.incoming import clear_away, leave_disks, let_go, make_room
from compute_agent.agent.operations.steps import KILL_GUEST, UNPLUG_PORTS
from compute_agent.agent.work import Work
from compute_agent.instance.state import VmState


def claim_disks(work: Work) -> None:
    """They are this host's."""
    evacuee = evacuee_of(work.request)
    work.node.storage.moves.evacuate(work.instance, evacuee.source, evacuee.epoch)


EVACUATE = Operation(
    name=NAME,
    allowed=frozenset({VmState.BUILDING}),
    steps=(
        Step("make_room", make_room, clear_away),
        Step("create_disks", create_disks),
        Step("claim_disks", claim_disks),
        Step("let_go", let_go),
    ),
    outcome=VmState.STOPPED,
    failure="gone",
)

EVACUATED = Operation(
    name="evacuated",
    allowed=frozenset(VmState) - {VmState.INCOMING},
    steps=(KILL_GUEST, UNPLUG_PORTS, Step("leave_disks", leave_disks), Step("forget_guest", forget_guest)),
    outcome="gone",
    failure=VmState.ERROR,
)
