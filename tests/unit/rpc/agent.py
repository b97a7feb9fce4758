"""An agent that remembers what it was asked."""

from __future__ import annotations

from typing import Any

from compute_agent.agent.request import Request
from compute_agent.errors import InstanceNotFound
from compute_agent.instance.view import Accepted, CachedImage, InstanceView, Leftover, OperationState, OperationView


class RememberingAgent:
    """Keeps `compute_agent.rpc.api.Api`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.states = [OperationState.DONE]
        """What `get_operation` says, one a question; the last one for ever."""
        self.waits: list[float] = []
        """What it was asked to wait, each time. It never does."""

    def submit(self, request: Request) -> Accepted:
        self.requests.append(request)
        return Accepted(
            request_id=request.request_id,
            instance_uuid=request.instance_uuid,
            operation=request.operation,
            state=OperationState.ACCEPTED,
        )

    def get_instance(self, instance_uuid: str) -> InstanceView:
        raise InstanceNotFound(instance_uuid)

    def list_instances(self) -> list[InstanceView]:
        return []

    def get_operation(self, request_id: str, wait: float = 0.0) -> OperationView:
        self.waits.append(wait)
        return OperationView(
            request_id=request_id,
            instance_uuid=request_id,
            operation="boot",
            state=self.states.pop(0) if len(self.states) > 1 else self.states[0],
            progress=50,
            steps=[],
            fault=None,
            accepted_at=1.5,
            finished_at=None,
        )

    def list_operations(self, instance_uuid: str | None, limit: int) -> list[OperationView]:
        return [self.get_operation(instance_uuid or "any")] * limit

    def get_console_output(self, instance_uuid: str, length: int) -> str:
        return "x" * length

    def get_serial_console(self, instance_uuid: str) -> dict[str, Any]:
        return {"type": "unix"}

    def get_diagnostics(self, instance_uuid: str) -> dict[str, Any]:
        raise ZeroDivisionError("a mistake of the agent")

    def list_images(self) -> list[CachedImage]:
        return [CachedImage(checksum="sha256:00", kind="raw", size=1, used_at=1.5, used_by=0)]

    def prune_images(self) -> list[CachedImage]:
        return self.list_images()

    def reconcile(self, dry_run: bool) -> list[Leftover]:
        return [Leftover(kind="disk", instance_uuid="6fb1a000-0000-4000-8000-000000000001", due=not dry_run)]

    def get_host(self) -> dict[str, Any]:
        return {"host": "node1"}
