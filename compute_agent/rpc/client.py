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
from collections.abc import Callable
from typing import Any, Literal

from compute_agent.errors import DeadlineExceeded
from compute_agent.instance.model import Instance
from compute_agent.instance.preparation import prepare
from compute_agent.instance.view import (
    Accepted,
    CachedImage,
    CpuView,
    InstanceView,
    Leftover,
    OperationView,
)
from compute_agent.rpc.copy_verbs import CopyVerbs
from compute_agent.rpc.disk_verbs import DiskVerbs
from compute_agent.rpc.interface_verbs import InterfaceVerbs
from compute_agent.rpc.migration_verbs import MigrationVerbs

prepare(CachedImage, CpuView, InstanceView, Leftover, OperationView)

ASK_AGAIN = 1.0
"""Seconds from one question about an operation to the next, if it does not end before."""


class ComputeClient(DiskVerbs, InterfaceVerbs, CopyVerbs, MigrationVerbs):
    """Talks to the agent of one host. May be used by many threads at once."""

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

    def get_cpu(self) -> CpuView:
        """What CPUs the host can give to guests of QEMU."""
        return self._ask(CpuView, "get_cpu")

    def host_maintenance_mode(self, mode: bool) -> None:
        """Whether the host refuses guests, new ones and those of other hosts."""
        self._ask(type(None), "host_maintenance_mode", mode=mode)

    def list_images(self) -> list[CachedImage]:
        """What the image cache holds, the image that was used longest ago first."""
        return self._ask(list[CachedImage], "list_images")

    def prune_images(self) -> list[CachedImage]:
        """Remove the images from the cache that nobody uses; what is gone."""
        return self._ask(list[CachedImage], "prune_images")

    def reconcile(self, *, dry_run: bool = False) -> list[Leftover]:
        """What is on the host and should not be; what is ``due`` is removed, unless this is a dry run."""
        return self._ask(list[Leftover], "reconcile", dry_run=dry_run)

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        """One operation. Returns when it has ended, or `wait` seconds later, at most 5, if it has not.

        An agent that many ask does not wait with its answer, which is as old then.
        """
        due = time.monotonic() + wait
        operation = self._ask(OperationView, "get_operation", request_id=request_id, wait=wait)
        if not operation.state.is_final:
            time.sleep(max(0.0, due - time.monotonic()))
        return operation

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
        due, wait = time.monotonic() + timeout, 0.0 if on_progress else ASK_AGAIN
        while True:
            operation = self.get_operation(request_id, wait=max(0.0, min(wait, due - time.monotonic())))
            if on_progress is not None:
                on_progress(operation)
            if operation.state.is_final:
                return operation
            if time.monotonic() >= due:
                raise DeadlineExceeded(f"operation {request_id} on {self.host} is not over after {timeout:g} s")
            wait = ASK_AGAIN
