"""The host, and what goes on on it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compute_agent.instance.wire import Uuid
from compute_agent.rpc.messages.base import Message


class GetHost(Message, frozen=True):
    """What this host is, has and can do."""


class GetCpu(Message, frozen=True):
    """What CPUs this host can give to guests of QEMU: found out when it is asked first, which takes a second or so."""


class HostMaintenanceMode(Message, frozen=True):
    """Have this host take no guests, neither new ones nor those of other hosts, until it is told to again.

    Such a request is refused with HostInMaintenance. What is there goes on, and can be dealt with as ever.
    """

    mode: bool


class ListImages(Message, frozen=True):
    """What the image cache of this host holds."""


class PruneImages(Message, frozen=True):
    """Remove from the image cache of this host what nobody uses; it is fetched again when it is needed."""


class Reconcile(Message, frozen=True):
    """Compare what is on this host with what should be, and remove what was not wanted the last time either.

    The agent does so by itself, at its start and then now and then. A dry run only tells.
    """

    dry_run: bool = False


class GetOperation(Message, frozen=True):
    """One operation, by its request id."""

    request_id: Uuid
    wait: Annotated[float, Meta(ge=0, le=5)] = 0.0
    """Seconds that the answer may take if the operation has not ended before; the agent is free to answer sooner."""


class ListOperations(Message, frozen=True):
    """The latest operations, newest first; of one instance, where it is given."""

    instance_uuid: Uuid | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


MESSAGES: tuple[type[Message], ...] = (
    GetHost,
    GetCpu,
    HostMaintenanceMode,
    ListImages,
    PruneImages,
    Reconcile,
    GetOperation,
    ListOperations,
)
