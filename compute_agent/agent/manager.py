"""The agent: accepts requests, has them carried out, answers questions. What RPC talks to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from compute_agent import __version__
from compute_agent.agent.admission import admit, check_incoming
from compute_agent.agent.announcer import Announcer
from compute_agent.agent.execution import Execution, fault_of
from compute_agent.agent.gates import open_gate
from compute_agent.agent.incidents import Incidents
from compute_agent.agent.journal import Journal
from compute_agent.agent.journal.rows import answer_to
from compute_agent.agent.lanes import Lanes
from compute_agent.agent.log_context import logging_about
from compute_agent.agent.node import Node, Wish
from compute_agent.agent.operations.leaving import HAND_OVER
from compute_agent.agent.operations.live_migration import LIVE_MIGRATION
from compute_agent.agent.operations.migrate import MIGRATE
from compute_agent.agent.outbox import Outbox
from compute_agent.agent.peers import Outside
from compute_agent.agent.reconciler import Reconciler
from compute_agent.agent.recovery import recover
from compute_agent.agent.request import Request
from compute_agent.agent.settings import AgentSettings
from compute_agent.agent.turns import Turns
from compute_agent.agent.views import view_of, views_of_all
from compute_agent.agent.work import Work
from compute_agent.errors import ComputeAgentError, DiskInUse, InvalidState, JournalError
from compute_agent.host.resources import boot_id, cpu_count, memory_mb
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.migration import Gate, Mover
from compute_agent.instance.view import (
    Accepted,
    CachedImage,
    CpuView,
    InstanceView,
    Leftover,
    OperationState,
    OperationView,
)
from compute_agent.network.contract import PortDriver
from compute_agent.storage.contract import DiskDriver, OnCutOff
from compute_agent.virt.contract import Hypervisor, OnDiskFailure, OnGuestExit

LOG = logging.getLogger(__name__)


class Manager:
    """Everything that happens on this node goes through here. Methods may be called from any thread."""

    def __init__(
        self,
        settings: AgentSettings,
        make_hypervisor: Callable[[OnGuestExit, OnDiskFailure], Hypervisor],
        network: PortDriver,
        make_storage: Callable[[OnCutOff], DiskDriver],
        outside: Outside,
    ) -> None:
        """Open the journal and go on where the last agent stopped; requests may come when this returns.

        :raises HostError: the journal cannot be used.
        """
        self._settings = settings
        self._started_at = time.time()
        self._journal = Journal(settings.state_dir / "journal.sqlite")
        self._lanes = Lanes(settings.workers)
        incidents = Incidents(self._lanes)
        self._node = Node(
            settings=settings,
            journal=self._journal,
            hypervisor=make_hypervisor(incidents.guest_exited, incidents.disk_failed),
            network=network,
            storage=make_storage(incidents.disks_cut_off),
            peers=outside.peers,
            turns=Turns(self._journal, settings.migration.max_concurrent, self._lanes.resting),
            boot_id=boot_id(),
        )
        self._outbox = Outbox(self._journal, outside.publish)
        self._announcer = Announcer(settings.host, self._journal, self._outbox.wake)
        incidents.begin(self._node, self._carry_out)
        recover(self._node, self._lanes, self._enqueue, incidents)
        self._reconciler = Reconciler(self._node, settings.reconcile_interval, self._lanes.submit, incidents)

    def stop_waiting(self) -> None:
        """Questions that wait for an operation's end are answered."""
        self._node.ends.close()

    def close(self, seconds: float = 5.0) -> None:
        """Stop within about `seconds`, without touching a guest; what is unfinished is the next agent's."""
        self._lanes.close(seconds)
        self._reconciler.close(1.0)
        self._outbox.close(1.0)
        self._node.hypervisor.close()
        self._node.network.close()
        self._node.storage.close()
        self._journal.close()

    # --- changes ----------------------------------------------------------------------------------

    def submit(self, request: Request) -> Accepted:
        """Make the request durable and have it carried out. A request that was accepted before starts nothing.

        :raises InvalidInput: it cannot be meant.
        :raises Conflict: the instance is not in a state for it, or the id was used for something else.
        :raises NotFound: no such instance.
        :raises JournalError: it cannot be written down.
        :raises HostError: this node cannot do it. In each case nothing has changed.
        """
        with logging_about(request.request_id, request.instance_uuid):
            if admit(self._node, request):
                LOG.info("Accepted %s", request.operation)
                self._enqueue(request)
        return answer_to(request)

    def _enqueue(self, request: Request) -> None:
        self._lanes.submit(request.instance_uuid, lambda: self._carry_out(request))

    def _carry_out(self, request: Request) -> None:
        with logging_about(request.request_id, request.instance_uuid):
            self._lanes.insist(lambda: self._go_on_with(request))

    def _go_on_with(self, request: Request) -> None:
        """From where it is by the journal. :raises JournalError: it is not at its end."""
        accepted = self._journal.operation(request.request_id)
        try:
            row = self._journal.instance(request.instance_uuid)
        except JournalError:
            raise
        except ComputeAgentError as error:  # gone meanwhile, or written by a newer agent
            self._refuse(request, error)
            return
        work = Work(self._node, request, row.record)
        Execution(self._node, self._announcer, accepted, row, work).run()

    def _refuse(self, request: Request, error: ComputeAgentError) -> None:
        LOG.error("%s cannot begin: %s", request.operation, error)
        with self._journal.transaction():
            self._journal.finish(request.request_id, OperationState.FAILED, fault_of(error))
            self._announcer.announce(request, "error", 0, outcome=fault_of(error))
        self._node.ends.wake()

    # --- questions --------------------------------------------------------------------------------

    def get_instance(self, instance_uuid: str) -> InstanceView:
        """:raises InstanceNotFound: no such instance."""
        return view_of(self._node, instance_uuid)

    def list_instances(self) -> list[InstanceView]:
        """All instances of this host, oldest first."""
        return views_of_all(self._node)

    def get_operation(self, request_id: str, wait: float) -> OperationView:
        """As it is at its end, or `wait` seconds later at most.

        :raises OperationNotFound: nothing was accepted under this id.
        """
        self._node.ends.wait_for(lambda: self._journal.operation(request_id).finished_at is not None, wait)
        return self._journal.operation(request_id).view()

    def list_operations(self, instance_uuid: str | None, limit: int) -> list[OperationView]:
        """The latest ones, newest first."""
        return [row.view() for row in self._journal.operations(instance_uuid, limit)]

    def get_console_output(self, instance_uuid: str, length: int) -> str:
        """The last `length` bytes of the serial console; what is not UTF-8 is replaced."""
        self._journal.instance(instance_uuid)
        return self._node.hypervisor.console_output(instance_uuid, length).decode(errors="replace")

    def get_serial_console(self, instance_uuid: str) -> dict[str, object]:
        """Where to talk to the serial console. :raises GuestGone: it is not running."""
        self._journal.instance(instance_uuid)
        self._node.guest(instance_uuid)
        path = self._node.hypervisor.console_socket(instance_uuid)
        return {"type": "unix", "host": self._settings.host, "path": str(path)}

    def get_diagnostics(self, instance_uuid: str) -> dict[str, object]:
        """Counters of the running guest. :raises GuestGone: it is not running."""
        self._journal.instance(instance_uuid)
        return dict(self._node.guest(instance_uuid).diagnostics())

    def list_images(self) -> list[CachedImage]:
        """What the image cache holds."""
        return self._node.storage.list_images()

    def prune_images(self) -> list[CachedImage]:
        """Remove what nobody uses; what is gone."""
        return self._node.storage.prune_images()

    def reconcile(self, dry_run: bool) -> list[Leftover]:
        """Look for what nobody wants, and remove what was found twice; a dry run only tells."""
        return self._reconciler.look(dry_run=dry_run)

    def get_snapshot(self, image_id: str) -> Snapshot:
        """:raises CopyNotFound: there is none."""
        return self._node.storage.copies.get_snapshot(image_id)

    def delete_snapshot(self, image_id: str) -> None:
        """Remove it, if it is there."""
        self._node.storage.copies.delete_snapshot(image_id)

    def list_backups(self, instance_uuid: str | None) -> list[Backup]:
        """Oldest first; of one instance, where it is given, which may be gone."""
        backups = self._node.storage.copies.list_backups()
        return [one for one in backups if instance_uuid in (None, one.instance_uuid)]

    def delete_backup(self, backup_id: str) -> None:
        """Remove it, if it is there. :raises DiskInUse: another backup stands on it, or something is done with it."""
        for row in self._journal.unfinished():
            if backup_id in (row.request.arguments.get(name) for name in ("backup_id", "parent")):
                raise DiskInUse(f"backup {backup_id} cannot be deleted: {row.request.operation} uses it now")
        self._node.storage.copies.delete_backup(backup_id)

    # --- guests that move ---------------------------------------------------------------------------

    def check_can_live_migrate_destination(self, mover: Mover) -> None:
        """:raises ComputeAgentError: the guest cannot come here; names why."""
        check_incoming(self._node, mover)

    def get_incoming(self, instance_uuid: str, migration: str) -> Gate:
        """Where it comes in from now on. :raises MigrationRefused: it does not, by this migration."""
        return open_gate(self._node, instance_uuid, migration)

    def live_migration_abort(self, instance_uuid: str) -> None:
        """:raises InvalidState: the instance does not move, or its new host has been asked to take it over."""
        self._wish(instance_uuid, "abort")

    def live_migration_force_complete(self, instance_uuid: str) -> None:
        """:raises InvalidState: likewise."""
        self._wish(instance_uuid, "force")

    def _wish(self, instance_uuid: str, wish: Wish) -> None:
        row = self._journal.instance(instance_uuid)
        moves = (LIVE_MIGRATION.name,) if wish == "force" else (LIVE_MIGRATION.name, MIGRATE.name)
        for one in self._journal.unfinished(instance_uuid):
            if one.request.operation in moves and HAND_OVER.name not in one.steps:
                self._node.wishes[one.request.request_id] = wish
                self._node.ends.wake()
                return
        raise InvalidState(instance_uuid, f"to {wish} a migration", row.vm_state, "on its way to another host")

    def get_cpu(self) -> CpuView:
        """What CPUs guests of QEMU can have here. :raises HostError: that cannot be found out."""
        return self._node.hypervisor.describe_cpu()

    def host_maintenance_mode(self, mode: bool) -> None:
        """Whether the host takes guests; those that are here can be dealt with either way."""
        self._journal.set_maintenance(on=mode)
        LOG.info("The host is in maintenance and takes no guests" if mode else "The host takes guests")

    def get_host(self) -> dict[str, object]:
        """What this host is, has and can do."""
        rows = self._journal.instances()
        flavors = [row.record.instance.flavor for row in rows]
        return {
            "host": self._settings.host,
            "agent": {"version": __version__, "started_at": self._started_at},
            "hypervisor": dict(self._node.hypervisor.describe()),
            "vcpus": cpu_count(),
            "vcpus_used": sum(flavor.vcpus for flavor in flavors),
            "memory_mb": memory_mb(),
            "memory_mb_used": sum(flavor.memory_mb for flavor in flavors),
            "storage": dict(self._node.storage.capacity()),
            "instances": len(rows),
            "maintenance_since": self._journal.maintenance_since(),
            "journal_fault": self._journal.fault(),
        }
