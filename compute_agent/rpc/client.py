"""What a controller imports: one method for each verb, typed answers, real exceptions.

::

    client = ComputeClient(connect("rabbit://user:password@broker:5672/"), host="node1")
    accepted = client.build_and_run_instance(instance)
    operation = client.wait(accepted.request_id, timeout=120)

Every method raises, besides what the agent itself refuses with:

- `HostError`: the broker cannot be reached, or no agent ever served this host. Nothing was sent.
- `DeadlineExceeded`: no answer in time. The request may still have been taken: repeat it with the same request id.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import msgspec
from oslo_messaging.transport import RPCTransport

from compute_agent.errors import DeadlineExceeded
from compute_agent.instance.block_device import BlockDevice, DiskQos
from compute_agent.instance.copies import Backup, Snapshot
from compute_agent.instance.model import Instance
from compute_agent.instance.preparation import prepare
from compute_agent.instance.view import Accepted, CachedImage, InstanceView, OperationState, OperationView
from compute_agent.instance.wire import Backend
from compute_agent.rpc.channel import Channel

prepare(Accepted, CachedImage, InstanceView, OperationView)

T = TypeVar("T")

SHORTEST_PAUSE = 0.01
LONGEST_PAUSE = 1.0
_PAUSES_A_WAIT = 3
"""A pause is so small a part of what was waited already: the end is heard of that much later at most."""


class BackupChoices(TypedDict, total=False):
    """What may be said about a backup."""

    disks: Sequence[str] | None
    """Default: all."""
    parent: str | None
    """Only what was written since that backup."""
    target: str | None
    """Not to files of the node, but to ``rbd`` or ``nbd://HOST:PORT/PREFIX``."""


class ComputeClient:
    """Talks to the agent of one host. May be used by many threads at once."""

    def __init__(self, transport: RPCTransport, host: str, timeout: float = 10.0) -> None:
        """`timeout` in seconds, for each answer. Connects with the first call."""
        self.transport = transport
        self.host = host
        self._channel = Channel(transport, host, timeout)

    def close(self) -> None:
        """Let go of the broker."""
        self.transport.cleanup()

    # --- changes: answered as soon as they are durable ---------------------------------------------

    def build_and_run_instance(self, instance: Instance, request_id: str | None = None) -> Accepted:
        """Create an instance and start it."""
        return self._change("build_and_run_instance", request_id, instance=instance)

    def start_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Start a stopped instance."""
        return self._change("start_instance", request_id, instance_uuid=instance_uuid)

    def stop_instance(
        self, instance_uuid: str, request_id: str | None = None, *, timeout: float | None = None
    ) -> Accepted:
        """Ask the guest to shut down; force it off after `timeout` seconds (default: the agent's)."""
        return self._change("stop_instance", request_id, instance_uuid=instance_uuid, timeout=timeout)

    def reboot_instance(
        self,
        instance_uuid: str,
        request_id: str | None = None,
        *,
        reboot_type: Literal["SOFT", "HARD"] = "SOFT",
        timeout: float | None = None,
    ) -> Accepted:
        """SOFT asks the guest to shut down, and resets it after `timeout` seconds; HARD makes its process anew."""
        return self._change(
            "reboot_instance", request_id, instance_uuid=instance_uuid, reboot_type=reboot_type, timeout=timeout
        )

    def pause_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Stop the vCPUs; memory stays."""
        return self._change("pause_instance", request_id, instance_uuid=instance_uuid)

    def unpause_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Let the vCPUs run again."""
        return self._change("unpause_instance", request_id, instance_uuid=instance_uuid)

    def suspend_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Save memory to disk and free it."""
        return self._change("suspend_instance", request_id, instance_uuid=instance_uuid)

    def resume_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Go on where `suspend_instance` left off."""
        return self._change("resume_instance", request_id, instance_uuid=instance_uuid)

    def terminate_instance(self, instance_uuid: str, request_id: str | None = None) -> Accepted:
        """Stop the instance at once and remove all that belongs to it."""
        return self._change("terminate_instance", request_id, instance_uuid=instance_uuid)

    def attach_volume(self, instance_uuid: str, block_device: BlockDevice, request_id: str | None = None) -> Accepted:
        """Give the instance one more disk; `block_device` names it by its ``volume_id``."""
        return self._change("attach_volume", request_id, instance_uuid=instance_uuid, block_device=block_device)

    def detach_volume(self, instance_uuid: str, volume_id: str, request_id: str | None = None) -> Accepted:
        """Take a disk away again."""
        return self._change("detach_volume", request_id, instance_uuid=instance_uuid, volume_id=volume_id)

    def extend_volume(self, instance_uuid: str, disk: str, size_gb: int, request_id: str | None = None) -> Accepted:
        """Make a disk, named by its ``device_name`` or ``volume_id``, as large as `size_gb` GiB."""
        return self._change("extend_volume", request_id, instance_uuid=instance_uuid, disk=disk, size_gb=size_gb)

    def set_disk_qos(
        self, instance_uuid: str, disk: str, qos: DiskQos | None, request_id: str | None = None
    ) -> Accepted:
        """Limit a disk anew; None takes all limits away."""
        return self._change("set_disk_qos", request_id, instance_uuid=instance_uuid, disk=disk, qos=qos)

    def volume_snapshot_create(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """From now on the guest writes to an overlay beside the disk, which stays as it was."""
        return self._change_layers("create", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_delete(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """Have the disk keep its content without the overlay of that snapshot."""
        return self._change_layers("delete", instance_uuid, disk, snapshot_id, request_id)

    def volume_snapshot_revert(
        self, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None = None
    ) -> Accepted:
        """Have a stopped instance's disk be what it was at its newest snapshot."""
        return self._change_layers("revert", instance_uuid, disk, snapshot_id, request_id)

    def snapshot_instance(
        self, instance_uuid: str, image_id: str, request_id: str | None = None, *, backend: Backend | None = None
    ) -> Accepted:
        """Make an image of the root disk as it is now; `get_snapshot` tells of it when the operation is done."""
        return self._change(
            "snapshot_instance", request_id, instance_uuid=instance_uuid, image_id=image_id, backend=backend
        )

    def backup_instance(
        self,
        instance_uuid: str,
        backup_id: str,
        request_id: str | None = None,
        **choices: Unpack[BackupChoices],
    ) -> Accepted:
        """Copy disks as they all are now."""
        words = {"backup_id": backup_id, **choices}
        return self._change("backup_instance", request_id, instance_uuid=instance_uuid, **words)

    def restore_instance(self, instance_uuid: str, backup_id: str, request_id: str | None = None) -> Accepted:
        """Have the disks of a stopped instance be what they were when a backup was made."""
        return self._change("restore_instance", request_id, instance_uuid=instance_uuid, backup_id=backup_id)

    # --- copies: done when answered ----------------------------------------------------------------

    def get_snapshot(self, image_id: str) -> Snapshot:
        """An image that was made of an instance."""
        return self._ask(Snapshot, "get_snapshot", image_id=image_id)

    def delete_snapshot(self, image_id: str) -> None:
        """Remove such an image, if it is there."""
        self._ask(type(None), "delete_snapshot", image_id=image_id)

    def list_backups(self, instance_uuid: str | None = None) -> list[Backup]:
        """The backups on this host, oldest first; of one instance, where it is given."""
        return self._ask(list[Backup], "list_backups", instance_uuid=instance_uuid)

    def delete_backup(self, backup_id: str) -> None:
        """Remove a backup, if it is there; refused while another stands on it."""
        self._ask(type(None), "delete_backup", backup_id=backup_id)

    # --- questions ---------------------------------------------------------------------------------

    def get_instance(self, instance_uuid: str) -> InstanceView:
        """One instance."""
        return self._ask(InstanceView, "get_instance", instance_uuid=instance_uuid)

    def list_instances(self) -> list[InstanceView]:
        """Every instance of this host, oldest first."""
        return self._ask(list[InstanceView], "list_instances")

    def get_console_output(self, instance_uuid: str, length: int = 64 * 1024) -> str:
        """The last `length` bytes of the serial console's log."""
        return self._ask(str, "get_console_output", instance_uuid=instance_uuid, length=length)

    def get_serial_console(self, instance_uuid: str) -> dict[str, Any]:
        """Where the serial console can be reached on the instance's host: ``type``, ``host``, ``path``."""
        return self._ask(dict[str, Any], "get_serial_console", instance_uuid=instance_uuid)

    def get_diagnostics(self, instance_uuid: str) -> dict[str, Any]:
        """Counters of a running instance."""
        return self._ask(dict[str, Any], "get_diagnostics", instance_uuid=instance_uuid)

    def get_host(self) -> dict[str, Any]:
        """What this host is, has and can do."""
        return self._ask(dict[str, Any], "get_host")

    def list_images(self) -> list[CachedImage]:
        """What the image cache holds, the image that was used longest ago first."""
        return self._ask(list[CachedImage], "list_images")

    def prune_images(self) -> list[CachedImage]:
        """Remove the images from the cache that nobody uses; what is gone."""
        return self._ask(list[CachedImage], "prune_images")

    def get_operation(self, request_id: str) -> OperationView:
        """One operation."""
        return self._ask(OperationView, "get_operation", request_id=request_id)

    def list_operations(self, instance_uuid: str | None = None, limit: int = 100) -> list[OperationView]:
        """The latest operations, newest first; of one instance, where it is given."""
        return self._ask(list[OperationView], "list_operations", instance_uuid=instance_uuid, limit=limit)

    # --- waiting -----------------------------------------------------------------------------------

    def wait(
        self, request_id: str, timeout: float, on_progress: Callable[[OperationView], None] | None = None
    ) -> OperationView:
        """Ask until the operation is DONE or FAILED; every answer goes to `on_progress`.

        :raises DeadlineExceeded: it is neither after `timeout` seconds; it goes on all the same.
        """
        began = time.monotonic()
        while True:
            operation = self.get_operation(request_id)
            if on_progress is not None:
                on_progress(operation)
            if operation.state in (OperationState.DONE, OperationState.FAILED):
                return operation
            waited = time.monotonic() - began
            pause = min(max(waited / _PAUSES_A_WAIT, SHORTEST_PAUSE), LONGEST_PAUSE)
            if waited + pause > timeout:
                raise DeadlineExceeded(f"operation {request_id} on {self.host} is not over after {timeout:g} s")
            time.sleep(pause)

    def _change_layers(
        self, what: str, instance_uuid: str, disk: str, snapshot_id: str, request_id: str | None
    ) -> Accepted:
        verb = f"volume_snapshot_{what}"
        return self._change(verb, request_id, instance_uuid=instance_uuid, disk=disk, snapshot_id=snapshot_id)

    def _change(self, verb: str, request_id: str | None, **arguments: object) -> Accepted:
        return self._ask(Accepted, verb, request_id=request_id or str(uuid.uuid4()), **arguments)

    def _ask(self, answer: type[T], verb: str, **arguments: object) -> T:
        plain = {name: msgspec.to_builtins(value) for name, value in arguments.items()}
        return msgspec.convert(self._channel.call(verb, plain), answer)
