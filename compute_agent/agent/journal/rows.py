"""Rows of the journal as typed values."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from compute_agent.agent.request import Request
from compute_agent.errors import HostError, one_line
from compute_agent.instance.preparation import prepare
from compute_agent.instance.record import InstanceRecord, decode_record
from compute_agent.instance.state import VmState
from compute_agent.instance.view import (
    Accepted,
    Fault,
    Notification,
    OperationState,
    OperationView,
    StepDetails,
    StepState,
    StepView,
)

prepare(Request, Fault, Notification, StepDetails)

T = TypeVar("T")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """:raises HostError: the row is none that an agent has written; nothing is guessed."""
    try:
        yield
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise HostError(f"the journal is damaged: {what!r} cannot be read", one_line(str(error))) from error


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance, as the journal knows it."""

    record: InstanceRecord
    vm_state: VmState
    fault: Fault | None
    created_at: float
    updated_at: float
    launched_at: float | None
    host_boot: str | None
    """Of the host, when the guest's process was started last."""

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> InstanceRow:
        """:raises RecordTooNew: written by a newer agent. :raises HostError: by none."""
        with reading(f"instance {row['uuid']}"):
            return cls(
                record=decode_record(row["record"]),
                vm_state=VmState(row["vm_state"]),
                fault=_decode(row["fault"], Fault),
                created_at=row["created_at"],
                updated_at=row["updated_at"],
                launched_at=row["launched_at"],
                host_boot=row["host_boot"],
            )


@dataclass(frozen=True, slots=True)
class OperationRow:
    """An accepted request and how far it got."""

    request: Request
    digest: str
    state: OperationState
    progress: int
    fault: Fault | None
    accepted_at: float
    finished_at: float | None
    details: StepDetails | None
    steps: dict[str, StepState]
    """In the order in which they were begun."""

    @classmethod
    def from_rows(cls, row: sqlite3.Row, steps: list[sqlite3.Row]) -> OperationRow:
        """`steps` are the rows of its steps, by position. :raises HostError: no agent has written them."""
        with reading(f"request {row['request_id']}"):
            return cls(
                request=msgspec.json.decode(row["request"], type=Request),
                digest=row["digest"],
                state=OperationState(row["state"]),
                progress=row["progress"],
                fault=_decode(row["fault"], Fault),
                accepted_at=row["accepted_at"],
                finished_at=row["finished_at"],
                details=_decode(row["details"], StepDetails),
                steps={step["name"]: StepState(step["state"]) for step in steps},
            )

    def view(self) -> OperationView:
        """As `get_operation` shows it."""
        return OperationView(
            request_id=self.request.request_id,
            instance_uuid=self.request.instance_uuid,
            operation=self.request.operation,
            state=self.state,
            progress=self.progress,
            steps=[StepView(name=name, state=state) for name, state in self.steps.items()],
            fault=self.fault,
            accepted_at=self.accepted_at,
            finished_at=self.finished_at,
            details=self.details,
        )


def answer_to(request: Request) -> Accepted:
    """The one answer that a request gets, each time it is sent."""
    return Accepted(
        request_id=request.request_id,
        instance_uuid=request.instance_uuid,
        operation=request.operation,
        state=OperationState.ACCEPTED,
    )


def encode(value: Fault | StepDetails | None) -> bytes | None:
    """For a column."""
    return None if value is None else msgspec.json.encode(value)


def _decode(data: bytes | None, kind: type[T]) -> T | None:
    return None if data is None else msgspec.json.decode(data, type=kind)
