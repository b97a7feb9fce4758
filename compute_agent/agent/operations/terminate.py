"""terminate: the instance and all that belongs to it is gone."""

from __future__ import annotations

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.boot import delete_disks, forget_guest
from compute_agent.agent.operations.layers import fold_layers
from compute_agent.agent.operations.steps import KILL_GUEST, UNPLUG_PORTS
from compute_agent.instance.state import VmState

TERMINATE = Operation(
    name="terminate",
    allowed=frozenset(VmState) - {VmState.INCOMING},
    steps=(
        KILL_GUEST,
        UNPLUG_PORTS,
        Step("fold_layers", fold_layers),
        Step("delete_disks", delete_disks),
        Step("forget_guest", forget_guest),
    ),
    outcome="gone",
    failure=VmState.ERROR,
)
