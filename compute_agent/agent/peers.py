"""What an agent asks of another one. `compute_agent.rpc.client.ComputeClient` can be asked all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from compute_agent.agent.outbox import Publish
from compute_agent.instance.migration import Gate, Mover
from compute_agent.instance.view import Accepted, OperationView


class Peer(Protocol):
    """The agent of another host. The names are the verbs'.

    Every method raises `DeadlineExceeded` or `HostError` where nothing is known, and what the agent refuses with.
    """

    def check_can_live_migrate_destination(self, mover: Mover) -> None: ...

    def pre_live_migration(
        self, instance_uuid: str, migration: str, mover: Mover, request_id: str | None = None
    ) -> Accepted: ...

    def get_incoming(self, instance_uuid: str, migration: str) -> Gate: ...

    def start_at_destination(self, instance_uuid: str, migration: str, request_id: str | None = None) -> Accepted: ...

    def post_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted: ...

    def rollback_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted: ...

    def start_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted: ...

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        """Returns when it has ended, or `wait` seconds later."""


Peers = Callable[[str], Peer]
"""By the host's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """All that the agent reaches over the queue."""

    publish: Publish
    peers: Peers
