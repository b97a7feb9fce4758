"""What a controller can have done about a guest's host, and what agents say to each other about it."""

from __future__ import annotations

from collections.abc import Sequence

from compute_agent.instance.migration import Evacuee, Gate, Mover, PortBinding
from compute_agent.instance.view import Accepted
from compute_agent.rpc.asking import Asking


class MigrationVerbs(Asking):
    """Changes are answered as soon as they are durable."""

    def live_migration(
        self, instance_uuid: str, dest: str, request_id: str | None = None, *, bindings: Sequence[PortBinding] = ()
    ) -> Accepted:
        """Move a running guest to the host `dest`, where its ports may be bound in another way."""
        words = {"instance_uuid": instance_uuid, "dest": dest, "bindings": list(bindings)}
        return self._change("live_migration", request_id, **words)

    def migrate_instance(
        self,
        instance_uuid: str,
        dest: str,
        request_id: str | None = None,
        *,
        stop: bool = False,
        bindings: Sequence[PortBinding] = (),
    ) -> Accepted:
        """Move a stopped instance to the host `dest`; with `stop`, one that runs, which is started again there."""
        words = {"instance_uuid": instance_uuid, "dest": dest, "stop": stop, "bindings": list(bindings)}
        return self._change("migrate_instance", request_id, **words)

    def live_migration_abort(self, instance_uuid: str) -> None:
        """Have it stay where it is."""
        self._ask(type(None), "live_migration_abort", instance_uuid=instance_uuid)

    def live_migration_force_complete(self, instance_uuid: str) -> None:
        """Pause it until it is there."""
        self._ask(type(None), "live_migration_force_complete", instance_uuid=instance_uuid)

    def evacuate_instance(self, evacuee: Evacuee, request_id: str | None = None) -> Accepted:
        """Take an instance from a host that is dead."""
        words = {"instance_uuid": evacuee.instance.uuid, "evacuee": evacuee}
        return self._change("evacuate_instance", request_id, **words)

    # --- between agents: they keep `compute_agent.agent.peers.Peer` --------------------------------------

    def check_can_live_migrate_destination(self, mover: Mover) -> None:
        """Whether the guest can come to this host."""
        self._ask(type(None), "check_can_live_migrate_destination", mover=mover)

    def pre_live_migration(
        self, instance_uuid: str, migration: str, mover: Mover, request_id: str | None = None
    ) -> Accepted:
        """Have everything ready for it."""
        words = {"instance_uuid": instance_uuid, "migration": migration, "mover": mover}
        return self._change("pre_live_migration", request_id, **words)

    def get_incoming(self, instance_uuid: str, migration: str) -> Gate:
        """Where it comes in."""
        return self._ask(Gate, "get_incoming", instance_uuid=instance_uuid, migration=migration)

    def start_at_destination(self, instance_uuid: str, migration: str, request_id: str | None = None) -> Accepted:
        """Have it waited for, now that what it only reads is there."""
        words = {"instance_uuid": instance_uuid, "migration": migration}
        return self._change("start_at_destination", request_id, **words)

    def post_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted:
        """Own it from now on."""
        words = {"instance_uuid": instance_uuid, "migration": migration}
        return self._change("post_live_migration_at_destination", request_id, **words)

    def rollback_live_migration_at_destination(
        self, instance_uuid: str, migration: str, request_id: str | None = None
    ) -> Accepted:
        """Let go of all that was made ready."""
        words = {"instance_uuid": instance_uuid, "migration": migration}
        return self._change("rollback_live_migration_at_destination", request_id, **words)
