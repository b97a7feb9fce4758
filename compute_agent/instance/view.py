"""What the agent tells about instances and operations: the answers of RPC and the payloads of notifications.

Times are seconds since the epoch.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from compute_agent.instance.machine import Machine
from compute_agent.instance.model import Instance
from compute_agent.instance.state import PowerState, VmState


class OperationState(StrEnum):
    """Where a request stands; the last two are final."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Its side effects were undone, as far as the operation promises."""

    @property
    def is_final(self) -> bool:
        """The operation has ended."""
        return self in (OperationState.DONE, OperationState.FAILED)


class StepState(StrEnum):
    """A step is INTENDED before its side effect, DONE after it, UNDONE when it has been taken back."""

    INTENDED = "intended"
    DONE = "done"
    UNDONE = "undone"


class Fault(Struct, frozen=True, kw_only=True):
    """Why something failed: the class of `compute_agent.errors` and its line for a person."""

    type: str
    message: str


class StepView(Struct, frozen=True, kw_only=True):
    """One journaled step of an operation."""

    name: str
    state: StepState


class Accepted(Struct, frozen=True, kw_only=True):
    """The answer to every request that changes something: it is durable and will be worked on."""

    request_id: str
    instance_uuid: str
    operation: str
    state: OperationState


class StepDetails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the running step of an operation is: what is known of it. Sizes in bytes, times in seconds."""

    stage: Annotated[str, Meta(description="`turn`, `disks`, `memory`, `hand_over`, `rest` or `cut_off`")]
    percent: int | None = None
    """Of the step."""
    remaining: int | None = None
    dirty_rate: int | None = None
    """Bytes a second that the guest writes to its memory."""
    expected_downtime: float | None = None
    """For which the guest will stand still."""
    time_left: float | None = None
    """Until the stage is over."""
    waiting_for: str | None = None
    """The host that has to answer first."""


class OperationView(Struct, frozen=True, kw_only=True):
    """One operation, as `get_operation` shows it."""

    request_id: str
    instance_uuid: str
    operation: str
    state: OperationState
    progress: int
    """Percent."""
    steps: list[StepView]
    fault: Fault | None
    accepted_at: float
    finished_at: float | None
    details: StepDetails | None = None
    """Of the step that is under way; agents of hosts that guests come from or go to may be older, and say nothing."""


class InstanceView(Struct, frozen=True, kw_only=True):
    """One instance, as `get_instance` shows it."""

    instance: Instance
    host: str
    vm_state: VmState
    power_state: PowerState
    task: str | None
    """The operation that is under way or waits, oldest first."""
    fault: Fault | None
    machine: Machine | None
    epoch: int
    """How often the instance has moved. Whoever evacuates it has to give a higher one."""
    pid: int | None
    created_at: float
    updated_at: float
    launched_at: float | None


class CpuView(Struct, frozen=True, kw_only=True):
    """What CPUs a host can give its guests, as QEMU names them."""

    vendor: str
    """``AMD``, ``Intel``, or what another calls itself."""
    accelerator: str
    """``kvm``, or ``tcg`` where the host only emulates."""
    features: list[str]
    """All that a guest can have here."""
    models: dict[str, list[str]]
    """The models of which all is here, and what each has."""


class CachedImage(Struct, frozen=True, kw_only=True):
    """One file of the image cache."""

    checksum: str
    kind: str
    """``qcow2``, ``raw``, ``kernel`` or ``ramdisk``."""
    size: int
    """Bytes that it takes."""
    used_at: float
    used_by: int
    """How many disks stand on it."""


class Leftover(Struct, frozen=True, kw_only=True):
    """Something that carries this host's mark, of an instance that this host does not have or that is stopped.

    Or something ``foreign``: it looks like a guest's and does not carry the mark. That is only told of, never touched.
    """

    kind: Literal["guest", "disk", "port", "foreign"]
    instance_uuid: str = ""
    """Empty where it is foreign."""
    port_id: str | None = None
    what: str | None = None
    """In words, of what is foreign."""
    due: bool = False
    """The look before this one found it, too: this one removes it."""


class Notification(Struct, frozen=True, kw_only=True):
    """Something that happened, on its way to the controller.

    `event_type` is ``compute.instance.<operation>.<start|progress|end|error>``.
    """

    event_type: str
    payload: dict[str, object]
