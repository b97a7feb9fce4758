"""A journal that somebody else has written into: rows that no agent of ours has made."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from compute_agent.agent.journal import Journal
from compute_agent.agent.request import Request
from compute_agent.errors import HostError, RecordTooNew
from compute_agent.instance.model import Flavor, Instance
from compute_agent.instance.record import InstanceRecord, encode_record
from compute_agent.instance.view import Notification, StepDetails
from tests.fuzz.generation import UUIDS, value_of
from tests.fuzz.mutation import TEXTS, any_value, spoil_bytes, spoil_json
from tests.fuzz.target import Case, Check, Target

_INSTANCE = Instance(uuid=UUIDS[0], name="x", flavor=Flavor(vcpus=1, memory_mb=64))
_REQUEST = Request(request_id=UUIDS[1], operation="stop", instance_uuid=UUIDS[0])
_COLUMNS: dict[str, dict[str, Any]] = {
    "instances": {"record": InstanceRecord, "vm_state": str, "fault": None, "created_at": None, "launched_at": None},
    "operations": {
        "request": Request,
        "state": str,
        "progress": None,
        "fault": None,
        "finished_at": None,
        "details": StepDetails,
    },
    "steps": {"name": str, "state": str},
    "outbox": {"notification": Notification},
}


@contextmanager
def _open() -> Iterator[Check]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="fuzz-") as directory:
        path = Path(directory) / "journal.sqlite"
        journal = Journal(path)
        journal.add_instance(InstanceRecord(instance=_INSTANCE))
        journal.add_operation(_REQUEST)
        journal.set_step(_REQUEST.request_id, "step", "done")  # type: ignore[arg-type]
        journal.add_notification(Notification(event_type="x", payload={}))
        with sqlite3.connect(path, isolation_level=None) as foreign:
            foreign.execute("PRAGMA synchronous = OFF")
            good = {table: foreign.execute(f"SELECT * FROM {table}").fetchall() for table in _COLUMNS}

            def check(case: Case) -> None:
                _write(case, foreign)
                try:
                    _read_all(journal)
                finally:
                    _put_back(foreign, good)

            yield check
        journal.close()


def _write(case: Case, foreign: sqlite3.Connection) -> None:
    table = case.random.choice(list(_COLUMNS))
    column, kind = case.random.choice(list(_COLUMNS[table].items()))
    value = _value(case.random, kind)
    case.show((table, column, value))
    with suppress(sqlite3.IntegrityError):  # the schema forbids it
        foreign.execute(f"UPDATE {table} SET {column} = ?", (value,))


def _value(random: Random, kind: Any) -> object:
    if kind in (None, str) or random.random() < 0.1:
        value = any_value(random)
        odd = value if isinstance(value, float | bytes) or (isinstance(value, int) and abs(value) < 2**63) else None
        text = random.choice(TEXTS).replace("\ud800", "")
        return random.choice((odd if kind is None else text, text, text.encode(), random.randbytes(5)))
    good = spoil_json(random, value_of(random, kind)) if random.random() < 0.7 else value_of(random, kind)
    try:
        content = msgspec.json.encode(good)
    except (UnicodeEncodeError, RecursionError, OverflowError):
        content = encode_record(InstanceRecord(instance=_INSTANCE))
    return spoil_bytes(random, content) if random.random() < 0.4 else content


def _read_all(journal: Journal) -> None:
    """As an agent does when it starts, and later."""
    for read in (
        journal.instances,
        journal.unfinished,
        journal.instance_uuids,
        lambda: journal.operations(None, 10),
        lambda: journal.waiting_notifications(10),
    ):
        try:
            read()
        except (HostError, RecordTooNew) as error:
            assert str(error).isprintable(), repr(str(error))


def _put_back(foreign: sqlite3.Connection, good: dict[str, list[tuple[Any, ...]]]) -> None:
    foreign.execute("BEGIN")
    for table in ("steps", "operations", "instances", "outbox"):
        foreign.execute(f"DELETE FROM {table}")
    for table in ("instances", "operations", "steps", "outbox"):
        for row in good[table]:
            foreign.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    foreign.execute("COMMIT")


TARGET = Target(name="journal", open=_open, weight=4)
