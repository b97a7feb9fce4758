"""An instance's life, and questions about it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from compute_agent.instance.model import Instance
from compute_agent.instance.wire import Uuid
from compute_agent.rpc.messages.base import Change, InstanceChange, Message

Seconds = Annotated[float, Meta(ge=0, le=86400, description="seconds")]


class BuildAndRunInstance(Change, frozen=True):
    """Create an instance and start it."""

    instance: Instance


class StartInstance(InstanceChange, frozen=True):
    """Start a stopped instance."""


class StopInstance(InstanceChange, frozen=True):
    """Ask the guest to shut down; force it off after `timeout` (default: the agent's ``shutdown_timeout``)."""

    timeout: Seconds | None = None


class RebootInstance(InstanceChange, frozen=True):
    """SOFT asks the guest to shut down, and resets it after `timeout`; HARD makes its process anew."""

    reboot_type: Literal["SOFT", "HARD"] = "SOFT"
    timeout: Seconds | None = None


class PauseInstance(InstanceChange, frozen=True):
    """Stop the vCPUs; memory stays."""


class UnpauseInstance(InstanceChange, frozen=True):
    """Let the vCPUs run again."""


class SuspendInstance(InstanceChange, frozen=True):
    """Save memory to disk and free it."""


class ResumeInstance(InstanceChange, frozen=True):
    """Go on where `suspend_instance` left off."""


class TerminateInstance(InstanceChange, frozen=True):
    """Stop the instance at once and remove all that belongs to it."""


class GetInstance(Message, frozen=True):
    """One instance."""

    instance_uuid: Uuid


class ListInstances(Message, frozen=True):
    """Every instance of this host."""


class GetConsoleOutput(Message, frozen=True):
    """The end of the serial console's log."""

    instance_uuid: Uuid
    length: Annotated[int, Meta(ge=1, le=1024 * 1024, description="bytes")] = 64 * 1024


class GetSerialConsole(Message, frozen=True):
    """Where the serial console can be reached on the instance's host."""

    instance_uuid: Uuid


class GetDiagnostics(Message, frozen=True):
    """Counters of a running instance."""

    instance_uuid: Uuid


MESSAGES: tuple[type[Message], ...] = (
    BuildAndRunInstance,
    StartInstance,
    StopInstance,
    RebootInstance,
    PauseInstance,
    UnpauseInstance,
    SuspendInstance,
    ResumeInstance,
    TerminateInstance,
    GetInstance,
    ListInstances,
    GetConsoleOutput,
    GetSerialConsole,
    GetDiagnostics,
)
