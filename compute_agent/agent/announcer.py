"""Tells the controller what happens, through the journal's outbox: nothing told is lost, whatever dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from compute_agent.agent.journal import Journal
from compute_agent.agent.request import Request
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Fault, Notification

Phase = Literal["start", "progress", "end", "error"]


class Announcer:
    """Writes notifications about operations of this host."""

    def __init__(self, host: str, journal: Journal, wake: Callable[[], None]) -> None:
        """`wake` tells the outbox that there is something; it sees it when the transaction is through."""
        self._host = host
        self._journal = journal
        self._wake = wake

    def announce(
        self,
        request: Request,
        phase: Phase,
        progress: int,
        vm_state: VmState | None = None,
        outcome: Fault | Mapping[str, object] | None = None,
    ) -> None:
        """Part of the transaction that is open; `progress` in percent, `vm_state` None when the instance is gone.

        `outcome` is why the operation failed, or what has come of it.
        """
        payload = {
            "request_id": request.request_id,
            "instance_uuid": request.instance_uuid,
            "operation": request.operation,
            "arguments": {name: value for name, value in request.arguments.items() if name != "mover"},
            "host": self._host,
            "progress": progress,
            "vm_state": vm_state,
            "fault": msgspec.to_builtins(outcome) if isinstance(outcome, Fault) else None,
            "result": None if isinstance(outcome, Fault) else outcome,
        }
        event_type = f"compute.instance.{request.operation}.{phase}"
        self._journal.add_notification(Notification(event_type=event_type, payload=payload))
        self._wake()
