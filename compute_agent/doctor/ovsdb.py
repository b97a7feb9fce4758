"""A few questions to the switch's database (RFC 7047), over a connection of their own; nothing is written."""

from __future__ import annotations

import codecs
import json
import socket
import time
from types import TracebackType
from typing import Any, Self

_DATABASE = "Open_vSwitch"
_DAEMONS_LOCK = "ovs_vswitchd"
"""The lock that a running ovs-vswitchd holds, so that no other takes its place."""


class OvsdbConnection:
    """A context manager. All its methods raise OSError where the server does not answer as it should, or in time."""

    def __init__(self, connection: str, deadline: float) -> None:
        """:param connection: ``unix:PATH`` or ``tcp:ADDRESS:PORT``; `deadline` is on the monotonic clock."""
        self._deadline = deadline
        self._socket = _connect(connection, self._seconds_left())
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._received = ""
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def select(self, table: str, *columns: str, name: str | None = None) -> list[dict[str, Any]]:
        """The rows of a table, or those of this name; a set of one value is that value, one of none is None."""
        where = [["name", "==", name]] if name is not None else []
        question = {"op": "select", "table": table, "where": where, "columns": columns}
        (answer,) = self._ask("transact", _DATABASE, question)
        return [{column: _plain(value) for column, value in row.items()} for row in answer["rows"]]

    def daemon_runs(self) -> bool:
        """Whether an ovs-vswitchd is connected: its lock is taken. It is asked for, and given back at once."""
        taken = not self._ask("lock", _DAEMONS_LOCK)["locked"]
        self._ask("unlock", _DAEMONS_LOCK)
        return taken

    def _ask(self, method: str, *parameters: object) -> Any:
        self._asked += 1
        self._send({"method": method, "params": parameters, "id": self._asked})
        while (message := self._next_message()).get("id") != self._asked:
            if message.get("method") == "echo":
                self._send({"result": message["params"], "error": None, "id": message["id"]})
        if message["error"] is not None:
            raise OSError(f"it answered {json.dumps(message['error'])}")
        return message["result"]

    def _send(self, message: dict[str, object]) -> None:
        self._socket.settimeout(self._seconds_left())
        self._socket.sendall(json.dumps(message).encode())

    def _next_message(self) -> dict[str, Any]:
        while True:
            try:
                message, end = json.JSONDecoder().raw_decode(self._received)
            except ValueError:
                self._receive()
            else:
                self._received = self._received[end:].lstrip()
                return dict(message)

    def _receive(self) -> None:
        self._socket.settimeout(self._seconds_left())
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("it hung up")
        self._received += self._decoder.decode(data)

    def _seconds_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it does not answer")
        return left


def _connect(connection: str, seconds: float) -> socket.socket:
    kind, _, address = connection.partition(":")
    if kind == "tcp":
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), seconds)
    unix = socket.socket(socket.AF_UNIX)
    try:
        unix.settimeout(seconds)
        unix.connect(address)
    except OSError:
        unix.close()
        raise
    return unix


def _plain(value: Any) -> Any:
    """OVSDB's ``["set", […]]`` of one value at most; anything else as it is."""
    if isinstance(value, list) and value[:1] == ["set"] and len(value[1]) <= 1:
        return value[1][0] if value[1] else None
    return value
