"""A fake of `compute_agent.rpc.client.ComputeClient`: remembers what it was asked, answers what it was told to.

Everything else of these tests is real: the command line, the parsers, the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from compute_agent.errors import InstanceNotFound, OperationNotFound
from compute_agent.instance.copies import Backup, DiskBackup, Snapshot
from compute_agent.instance.migration import Evacuee
from compute_agent.instance.model import Flavor, Instance, Port
from compute_agent.instance.state import PowerState, VmState
from compute_agent.instance.view import (
    Accepted,
    CachedImage,
    Fault,
    InstanceView,
    Leftover,
    OperationState,
    OperationView,
    StepDetails,
    StepState,
    StepView,
)

BACKUP = Backup(
    backup_id="7a000000-0000-4000-8000-000000000001",
    instance_uuid="6fb1a000-0000-4000-8000-000000000001",
    parent=None,
    created_at=1.0e9,
    frozen=True,
    disks=[DiskBackup(name=f"disk{number}", size=(number + 1) * 2**20, virtual_size=2**30) for number in range(2)],
)

_CHANGES = ("start", "stop", "reboot", "pause", "unpause", "suspend", "resume", "terminate")


def an_instance(uuid: str, name: str, **changes: Any) -> InstanceView:
    """A running instance of 1 vCPU and 512 MiB."""
    fields: dict[str, Any] = {"ports": [], "metadata": {}} | changes
    return InstanceView(
        instance=Instance(uuid=uuid, name=name, flavor=Flavor(vcpus=1, memory_mb=512), **fields),
        host="node1",
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        task=None,
        fault=None,
        machine=None,
        epoch=0,
        pid=4711,
        created_at=1.0e9,
        updated_at=1.0e9,
        launched_at=None,
    )


def an_operation(
    state: OperationState,
    progress: int = 0,
    fault: Fault | None = None,
    details: StepDetails | None = None,
    **steps: StepState,
) -> Any:
    """An operation on its way, as a function of its request: `FakeClient.story` is made of these."""

    def view(accepted: Accepted) -> OperationView:
        return OperationView(
            request_id=accepted.request_id,
            instance_uuid=accepted.instance_uuid,
            operation=accepted.operation,
            state=state,
            progress=progress,
            steps=[StepView(name=name, state=step) for name, step in steps.items()],
            fault=fault,
            accepted_at=time.time() - 2,
            finished_at=time.time() if state in (OperationState.DONE, OperationState.FAILED) else None,
            details=details,
        )

    return view


class FakeClient:
    """Set `raises` to have every call fail, `story` to what an operation goes through as it is looked at."""

    def __init__(self) -> None:
        self.instances: list[InstanceView] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.accepted: dict[str, Accepted] = {}
        self.story: list[Callable[[Accepted], OperationView] | BaseException] = [an_operation(OperationState.DONE, 100)]
        self.raises: BaseException | None = None
        self.console = ["console output\n"]
        self.serial_console: dict[str, object] = {}
        self.closed = False
        self.backups: list[Backup] = []

    def __getattr__(self, name: str) -> Callable[..., Accepted]:
        operation = name.removesuffix("_instance")
        if operation not in _CHANGES or operation == name:
            raise AttributeError(name)
        return lambda instance_uuid, **arguments: self._accept(operation, instance_uuid, arguments)

    def build_and_run_instance(self, instance: Instance, *, request_id: str) -> Accepted:
        return self._accept("boot", instance.uuid, {"instance": instance, "request_id": request_id})

    def _accept(self, operation: str, instance_uuid: str, arguments: dict[str, Any]) -> Accepted:
        self.requests.append((operation, {"instance_uuid": instance_uuid, **arguments}))
        self._answer()
        accepted = Accepted(
            request_id=arguments["request_id"],
            instance_uuid=instance_uuid,
            operation=operation,
            state=OperationState.ACCEPTED,
        )
        self.accepted[accepted.request_id] = accepted
        return accepted

    def list_instances(self) -> list[InstanceView]:
        self._answer()
        return self.instances

    def get_instance(self, instance_uuid: str) -> InstanceView:
        self._answer()
        for view in self.instances:
            if view.instance.uuid == instance_uuid:
                return view
        raise InstanceNotFound(instance_uuid)

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        self._answer()
        if request_id not in self.accepted:
            raise OperationNotFound(request_id)
        chapter = self.story.pop(0) if len(self.story) > 1 else self.story[0]
        if isinstance(chapter, BaseException):
            raise chapter
        return chapter(self.accepted[request_id])

    def wait(self, request_id: str, timeout: float, on_progress: Callable[[OperationView], None]) -> OperationView:
        while True:
            view = self.get_operation(request_id)
            on_progress(view)
            if view.finished_at is not None:
                return view

    def list_operations(self, instance_uuid: str | None = None, limit: int = 100) -> list[OperationView]:
        self.requests.append(("list_operations", {"instance_uuid": instance_uuid, "limit": limit}))
        return [self.story[-1](accepted) for accepted in self.accepted.values()]

    def get_console_output(self, instance_uuid: str, length: int = 65536) -> str:
        self.requests.append(("console", {"length": length}))
        self._answer()
        if not self.console:
            raise KeyboardInterrupt
        return self.console.pop(0)

    def get_serial_console(self, instance_uuid: str) -> dict[str, object]:
        return self.serial_console

    def get_diagnostics(self, instance_uuid: str) -> dict[str, object]:
        self._answer()
        return {"state": "running", "disks": {"disk0": {"read_bytes": 7}}, "balloon_mb": None}

    def get_host(self) -> dict[str, object]:
        self._answer()
        return {
            "host": "node1",
            "vcpus": 2,
            "maintenance_since": None,
            "hypervisor": {
                "name": "qemu",
                "accelerator": "tcg",
                "kvm": {
                    "problem": None,
                    "nested_paging": "NPT",
                    "extensions": {"interrupts": ["irqfd", "ioeventfd"]},
                    "missing": {"x86_smm": "no secure boot"},
                },
            },
            "agent": {"version": "0.1.0", "started_at": 1.0e9},
            "storage": {
                "qcow2": {"total": 3 * 2**30, "free": 2**29},
                "images": {"size": 3 * 2**30, "limit": 0, "count": 2, "in_use": 1},
                "rbd": {"total": 2**40, "free": 2**39, "age": 17},
            },
        }

    def live_migration(self, instance_uuid: str, dest: str, *, request_id: str) -> Accepted:
        return self._accept("live_migration", instance_uuid, {"dest": dest, "request_id": request_id})

    def migrate_instance(self, instance_uuid: str, dest: str, *, request_id: str, stop: bool) -> Accepted:
        return self._accept("migrate", instance_uuid, {"dest": dest, "request_id": request_id, "stop": stop})

    def evacuate_instance(self, evacuee: Evacuee, *, request_id: str) -> Accepted:
        return self._accept("evacuate", evacuee.instance.uuid, {"evacuee": evacuee, "request_id": request_id})

    def live_migration_abort(self, instance_uuid: str) -> None:
        self.requests.append(("live_migration_abort", {"instance_uuid": instance_uuid}))
        self._answer()

    def live_migration_force_complete(self, instance_uuid: str) -> None:
        self.requests.append(("live_migration_force_complete", {"instance_uuid": instance_uuid}))
        self._answer()

    def snapshot_instance(self, instance_uuid: str, image_id: str, **arguments: Any) -> Accepted:
        return self._accept("snapshot", instance_uuid, {"image_id": image_id, **arguments})

    def attach_interface(self, instance_uuid: str, port: Port, *, request_id: str) -> Accepted:
        return self._accept("attach_interface", instance_uuid, {"port": port, "request_id": request_id})

    def detach_interface(self, instance_uuid: str, port_id: str, *, request_id: str) -> Accepted:
        return self._accept("detach_interface", instance_uuid, {"port_id": port_id, "request_id": request_id})

    def volume_snapshot_create(self, instance_uuid: str, disk: str, snapshot_id: str, *, request_id: str) -> Accepted:
        return self._accept_layer("create", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_delete(self, instance_uuid: str, disk: str, snapshot_id: str, *, request_id: str) -> Accepted:
        return self._accept_layer("delete", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_revert(self, instance_uuid: str, disk: str, snapshot_id: str, *, request_id: str) -> Accepted:
        return self._accept_layer("revert", instance_uuid, disk, snapshot_id, request_id)

    def _accept_layer(self, what: str, instance_uuid: str, disk: str, snapshot_id: str, request_id: str) -> Accepted:
        arguments = {"disk": disk, "snapshot_id": snapshot_id, "request_id": request_id}
        return self._accept(f"volume_snapshot_{what}", instance_uuid, arguments)

    def backup_instance(self, instance_uuid: str, backup_id: str, **arguments: Any) -> Accepted:
        return self._accept("backup", instance_uuid, {"backup_id": backup_id, **arguments})

    def restore_instance(self, instance_uuid: str, backup_id: str, *, request_id: str) -> Accepted:
        return self._accept("restore", instance_uuid, {"backup_id": backup_id, "request_id": request_id})

    def list_backups(self, instance_uuid: str | None) -> list[Backup]:
        self._answer()
        return self.backups

    def get_snapshot(self, image_id: str) -> Snapshot:
        self._answer()
        return Snapshot(
            image_id=image_id,
            instance_uuid=BACKUP.instance_uuid,
            url="file:///snapshots/web1.qcow2",
            checksum=f"sha256:{'cd' * 32}",
            size=2**20,
            virtual_size=2**30,
            created_at=1.0e9,
            frozen=True,
        )

    def delete_snapshot(self, copy_id: str) -> None:
        self.requests.append(("delete_snapshot", {"copy_id": copy_id}))
        self._answer()

    def delete_backup(self, copy_id: str) -> None:
        self.requests.append(("delete_backup", {"copy_id": copy_id}))
        self._answer()

    def list_images(self) -> list[CachedImage]:
        self._answer()
        return [CachedImage(checksum=f"sha256:{'ab' * 32}", kind="qcow2", size=2**30, used_at=1.0e9, used_by=3)]

    def prune_images(self) -> list[CachedImage]:
        self.requests.append(("prune_images", {}))
        return self.list_images()

    def reconcile(self, *, dry_run: bool) -> list[Leftover]:
        self.requests.append(("reconcile", {"dry_run": dry_run}))
        return [Leftover(kind="disk", instance_uuid=BACKUP.instance_uuid, due=True)]

    def _answer(self) -> None:
        if self.raises is not None:
            raise self.raises

    def close(self) -> None:
        self.closed = True
