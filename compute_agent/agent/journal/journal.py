"""Reads and writes of the journal, in the agent's terms. A write is durable when the call returns, but for one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from compute_agent.agent.journal.database import Database
from compute_agent.agent.journal.rows import InstanceRow, OperationRow, encode, reading
from compute_agent.agent.request import Request
from compute_agent.errors import InstanceNotFound, OperationNotFound
from compute_agent.instance.record import InstanceRecord, encode_record
from compute_agent.instance.state import VmState
from compute_agent.instance.view import Fault, Notification, OperationState, StepDetails, StepState

_OPERATIONS = "SELECT * FROM operations"
_STEPS = "SELECT name, state FROM steps WHERE request_id = ? ORDER BY position"


class Journal:
    """See the package. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """:raises HostError: see `Database`. :raises RecordTooNew: likewise."""
        self._database = Database(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several writes one."""
        with self._database.transaction():
            yield

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """What is read inside belongs together: nobody writes meanwhile."""
        with self._database.held():
            yield

    def fault(self) -> str | None:
        """Why nothing can be written now; None: it can."""
        return self._database.fault()

    # --- operations -------------------------------------------------------------------------------

    def add_operation(self, request: Request) -> None:
        """Accept a request whose id is new."""
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO operations (request_id, request, digest, instance_uuid, state, accepted_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    request.request_id,
                    msgspec.json.encode(request),
                    request.digest(),
                    request.instance_uuid,
                    OperationState.ACCEPTED,
                    time.time(),
                ),
            )

    def find_operation(self, request_id: str) -> OperationRow | None:
        """What was accepted under this id."""
        rows = self._database.read(f"{_OPERATIONS} WHERE request_id = ?", request_id)
        return self._operation(rows[0]) if rows else None

    def operation(self, request_id: str) -> OperationRow:
        """:raises OperationNotFound: nothing was accepted under this id."""
        found = self.find_operation(request_id)
        if found is None:
            raise OperationNotFound(request_id)
        return found

    def operations(self, instance_uuid: str | None, limit: int) -> list[OperationRow]:
        """The latest ones, newest first."""
        rows = self._database.read(
            f"{_OPERATIONS} WHERE ?1 IS NULL OR instance_uuid = ?1 ORDER BY sequence DESC LIMIT ?2",
            instance_uuid,
            limit,
        )
        return [self._operation(row) for row in rows]

    def unfinished(self, instance_uuid: str | None = None) -> list[OperationRow]:
        """What was accepted and has not ended, oldest first."""
        rows = self._database.read(
            f"{_OPERATIONS} WHERE finished_at IS NULL AND (?1 IS NULL OR instance_uuid = ?1) ORDER BY sequence",
            instance_uuid,
        )
        return [self._operation(row) for row in rows]

    def unfinished_steps(self, name: str) -> dict[str, StepState]:
        """Where this step stands in what has begun it and has not ended: by request id, oldest first."""
        rows = self._database.read(
            "SELECT request_id, steps.state FROM operations JOIN steps USING (request_id)"
            " WHERE finished_at IS NULL AND name = ? ORDER BY sequence",
            name,
        )
        return {row["request_id"]: StepState(row["state"]) for row in rows}

    def _operation(self, row: sqlite3.Row) -> OperationRow:
        return OperationRow.from_rows(row, self._database.read(_STEPS, row["request_id"]))

    def set_running(self, request_id: str) -> None:
        """Its first step is about to begin."""
        self._update_operation(request_id, state=OperationState.RUNNING)

    def set_progress(self, request_id: str, percent: int, details: StepDetails | None) -> None:
        """How far it is, and the step that is under way."""
        self._update_operation(request_id, progress=percent, details=encode(details))

    def finish(self, request_id: str, state: OperationState, fault: Fault | None) -> None:
        """It has ended, one way or the other."""
        progress = {"progress": 100} if state is OperationState.DONE else {}
        end = {"state": state, "fault": encode(fault), "finished_at": time.time(), "details": None}
        self._update_operation(request_id, **end, **progress)

    def _update_operation(self, request_id: str, **columns: object) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with self._database.transaction() as sql:
            sql.execute(f"UPDATE operations SET {assignments} WHERE request_id = ?", (*columns.values(), request_id))

    def set_step(self, request_id: str, name: str, state: StepState) -> None:
        """Note where a step stands; the first time gives it its place in the order. One that is over has no details."""
        with self._database.transaction() as sql:
            if state is not StepState.INTENDED:
                self._update_operation(request_id, details=None)
            sql.execute(
                "INSERT INTO steps (request_id, position, name, state)"
                " VALUES (?1, (SELECT count(*) FROM steps WHERE request_id = ?1), ?2, ?3)"
                " ON CONFLICT (request_id, name) DO UPDATE SET state = excluded.state",
                (request_id, name, state),
            )

    def forget_operations_beyond(self, count: int) -> None:
        """Keep the newest `count` finished operations."""
        with self._database.transaction() as sql:
            sql.execute(
                "DELETE FROM operations WHERE finished_at IS NOT NULL AND sequence <="
                " (SELECT sequence FROM operations WHERE finished_at IS NOT NULL"
                "  ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
                (count,),
            )

    # --- instances --------------------------------------------------------------------------------

    def add_instance(self, record: InstanceRecord, state: VmState = VmState.BUILDING) -> None:
        """A new instance."""
        now = time.time()
        with self._database.transaction() as sql:
            sql.execute(
                "INSERT INTO instances (uuid, record, vm_state, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
                (record.instance.uuid, encode_record(record), state, now, now),
            )

    def find_instance(self, instance_uuid: str) -> InstanceRow | None:
        """:raises RecordTooNew: written by a newer agent."""
        rows = self._database.read("SELECT * FROM instances WHERE uuid = ?", instance_uuid)
        return InstanceRow.from_row(rows[0]) if rows else None

    def instance(self, instance_uuid: str) -> InstanceRow:
        """:raises InstanceNotFound: no such instance."""
        found = self.find_instance(instance_uuid)
        if found is None:
            raise InstanceNotFound(instance_uuid)
        return found

    def instances(self) -> list[InstanceRow]:
        """All of them, oldest first."""
        return [InstanceRow.from_row(row) for row in self._database.read("SELECT * FROM instances ORDER BY created_at")]

    def instance_uuids(self) -> set[str]:
        """Of all instances, those with an unreadable record too."""
        return {row["uuid"] for row in self._database.read("SELECT uuid FROM instances")}

    def set_record(self, record: InstanceRecord) -> None:
        """The machine was decided or changed."""
        self._update_instance(record.instance.uuid, record=encode_record(record))

    def set_state(self, instance_uuid: str, state: VmState, fault: Fault | None) -> None:
        """What an operation left behind."""
        self._update_instance(instance_uuid, vm_state=state, fault=encode(fault))

    def set_launched(self, instance_uuid: str) -> None:
        """The guest has been started."""
        self._update_instance(instance_uuid, launched_at=time.time())

    def set_host_boot(self, instance_uuid: str, boot_id: str) -> None:
        """Its process is about to be started. An older one is as good after a power failure, which ends it."""
        with self._database.transaction(durable=False):
            self._update_instance(instance_uuid, host_boot=boot_id)

    def _update_instance(self, instance_uuid: str, **columns: object) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with self._database.transaction() as sql:
            sql.execute(
                f"UPDATE instances SET {assignments}, updated_at = ? WHERE uuid = ?",
                (*columns.values(), time.time(), instance_uuid),
            )

    def remove_instance(self, instance_uuid: str) -> None:
        """It is gone from this host."""
        with self._database.transaction() as sql:
            sql.execute("DELETE FROM instances WHERE uuid = ?", (instance_uuid,))

    # --- the host ---------------------------------------------------------------------------------

    def maintenance_since(self) -> float | None:
        """When the host ceased to take guests; None: it takes them."""
        rows = self._database.read("SELECT since FROM maintenance")
        return rows[0]["since"] if rows else None

    def set_maintenance(self, *, on: bool) -> None:
        """Whether it takes guests. Nothing happens where that is so already."""
        with self._database.transaction() as sql:
            if not on:
                sql.execute("DELETE FROM maintenance")
            elif self.maintenance_since() is None:
                sql.execute("INSERT INTO maintenance (since) VALUES (?)", (time.time(),))

    # --- outbox -----------------------------------------------------------------------------------

    def add_notification(self, notification: Notification) -> None:
        """To be told to the controller, sooner or later."""
        with self._database.transaction() as sql:
            sql.execute("INSERT INTO outbox (notification) VALUES (?)", (msgspec.json.encode(notification),))

    def waiting_notifications(self, limit: int) -> list[tuple[int, Notification]]:
        """The oldest ones, each with its sequence number."""
        rows = self._database.read("SELECT * FROM outbox ORDER BY sequence LIMIT ?", limit)
        with reading("a notification"):
            return [(row["sequence"], msgspec.json.decode(row["notification"], type=Notification)) for row in rows]

    def remove_notification(self, sequence: int) -> None:
        """It was delivered. Not durable: after a power failure it may be delivered once more."""
        with self._database.transaction(durable=False) as sql:
            sql.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))
