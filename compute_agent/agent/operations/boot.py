"""boot: a new instance, from its order to a running guest. A failed one stays in ERROR, with nothing of it left."""

from __future__ import annotations

from compute_agent.agent.operation import Operation, Step
from compute_agent.agent.operations.steps import PLUG_PORTS, START_GUEST
from compute_agent.agent.work import Work
from compute_agent.instance.state import VmState


def design_machine(work: Work) -> None:
    """Decide the machine; from here on the record says what it is."""
    assert work.machine


def create_disks(work: Work) -> None:
    """Fetch the images and make the disks."""
    work.node.storage.create(work.instance, work.report)


def delete_disks(work: Work) -> None:
    """Remove the disks."""
    work.node.storage.delete(work.uuid)


def forget_guest(work: Work) -> None:
    """Remove what the hypervisor keeps about the instance."""
    work.node.guests.pop(work.uuid, None)
    work.node.hypervisor.forget(work.uuid)


BOOT = Operation(
    name="boot",
    allowed=frozenset({VmState.BUILDING}),
    steps=(
        Step("design_machine", design_machine),
        Step("create_disks", create_disks, delete_disks),
        PLUG_PORTS,
        START_GUEST,
    ),
    outcome=VmState.ACTIVE,
    failure=VmState.ERROR,
)
