"""The file itself: schema, durability, transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_agent.errors import HostError, JournalError, RecordTooNew

_FIRST = """
CREATE TABLE instances (
    uuid        TEXT PRIMARY KEY,
    record      BLOB NOT NULL,          -- compute_agent.instance.record
    vm_state    TEXT NOT NULL,
    fault       BLOB,
    created_at  REAL NOT NULL,
    updated_at  REAL NOT NULL,
    launched_at REAL
);
CREATE TABLE operations (
    sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id    TEXT NOT NULL UNIQUE,
    request       BLOB NOT NULL,        -- compute_agent.agent.request
    digest        TEXT NOT NULL,
    instance_uuid TEXT NOT NULL,
    state         TEXT NOT NULL,
    progress      INTEGER NOT NULL DEFAULT 0,
    fault         BLOB,
    accepted_at   REAL NOT NULL,
    finished_at   REAL
);
CREATE INDEX operations_by_instance ON operations (instance_uuid, sequence);
CREATE INDEX unfinished ON operations (sequence) WHERE finished_at IS NULL;
CREATE TABLE steps (
    request_id TEXT NOT NULL REFERENCES operations (request_id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL,
    PRIMARY KEY (request_id, name)
) WITHOUT ROWID;
CREATE TABLE outbox (
    sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
    notification BLOB NOT NULL
);
"""
_MAINTENANCE = """
CREATE TABLE maintenance (since REAL NOT NULL);  -- a row as long as the host takes no guests
"""
_DETAILS = """
ALTER TABLE operations ADD COLUMN details BLOB;  -- of the step that is under way
"""
_HOST_BOOT = """
ALTER TABLE instances ADD COLUMN host_boot TEXT;  -- the host's boot id when the guest's process was last started
"""
_CHANGES = (_FIRST, _MAINTENANCE, _DETAILS, _HOST_BOOT)
"""To the schema, each of which makes a version: a journal gets those that it has not."""

SCHEMA_VERSION = len(_CHANGES)


class Database:
    """One connection, one transaction at a time; any thread may use it."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        :raises RecordTooNew: a newer agent made it; it is left untouched.
        :raises HostError: it cannot be opened or is not a journal.
        """
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
            path.chmod(0o600)
            self._prepare(path)
        except (sqlite3.Error, OSError) as error:
            raise HostError(f"the journal {path} cannot be used", str(error)) from error

    def _prepare(self, path: Path) -> None:
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise RecordTooNew(f"the journal {path} has version {version}, this agent knows up to {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            changes = "".join(_CHANGES[version:])
            self._connection.executescript(f"BEGIN; {changes} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing, and durable when the block is left. Nested blocks belong to the outermost one.

        One that is not `durable` does not wait for the disk: a power failure undoes it where no durable one came after.

        :raises JournalError: nothing of it was written (a full disk, for example).
        :raises HostError: likewise, and it cannot be written later either: the file is damaged, or has been closed.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            try:
                self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                with self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    yield self._connection
            except sqlite3.Error as error:
                raise _failure("the journal cannot be written", error) from error

    def read(self, query: str, *parameters: object) -> list[sqlite3.Row]:
        """The rows of one query.

        :raises JournalError: the file cannot be read now.
        :raises HostError: it is damaged, or has been closed.
        """
        try:
            with self._lock:
                return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise _failure("the journal cannot be read", error) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """By this thread: others wait."""
        with self._lock:
            yield

    def fault(self) -> str | None:
        """Why it cannot be written now; None: it can be, as was just tried out. Nothing in it changes."""
        try:
            with self.transaction(durable=False) as sql:
                sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except HostError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Close the file; committed work is safe with or without it."""
        with self._lock:
            self._connection.close()


def _failure(what: str, error: sqlite3.Error) -> HostError:
    """SQLite calls operational what may go well another time."""
    kind = JournalError if isinstance(error, sqlite3.OperationalError) else HostError
    return kind(what, str(error))
