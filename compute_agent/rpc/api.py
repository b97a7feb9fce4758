"""What the server expects of the agent: one method for each question, and `submit` for every change."""

from __future__ import annotations

from typing import Any, Protocol

from compute_agent.agent.request import Request
from compute_agent.instance.view import Accepted, InstanceView, OperationView


class Api(Protocol):
    """The agent, as RPC sees it. The names are the verbs', the parameters those of their messages."""

    def submit(self, request: Request) -> Accepted: ...

    def get_instance(self, instance_uuid: str) -> InstanceView: ...

    def list_instances(self) -> list[InstanceView]: ...

    def get_operation(self, request_id: str) -> OperationView: ...

    def list_operations(self, instance_uuid: str | None, limit: int) -> list[OperationView]: ...

    def get_console_output(self, instance_uuid: str, length: int) -> str: ...

    def get_serial_console(self, instance_uuid: str) -> dict[str, Any]: ...

    def get_diagnostics(self, instance_uuid: str) -> dict[str, Any]: ...

    def get_host(self) -> dict[str, Any]: ...
