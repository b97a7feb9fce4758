"""computectl run in this process, as from a shell, over a fake client."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from compute_agent.cli.computectl import Computectl
from compute_agent.cli.connection import Connection
from tests.unit.cli.fake_client import FakeClient, an_instance

WEB1 = "6fb1a000-0000-4000-8000-000000000001"
WEB2 = "6fb1b000-0000-4000-8000-000000000002"
DB1 = "aa11a000-0000-4000-8000-000000000003"
REQUEST = "0c9d2f3a-52e5-4b0c-9ad1-3f1f0f2b7c11"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Run:
    """What a command did."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def advice(self) -> str:
        return self.stderr.rpartition("Next: ")[2].strip()


@dataclass
class Shell:
    """Runs computectl with a broker and a host named on the command line."""

    client: FakeClient = field(default_factory=FakeClient)
    connections: list[Connection] = field(default_factory=list)

    def __call__(
        self,
        *argv: str,
        stdin: io.StringIO | None = None,
        stdout: io.StringIO | None = None,
        stderr: io.StringIO | None = None,
        options: tuple[str, ...] = ("--transport-url", "rabbit://broker.example:5672/", "--host", "node1"),
    ) -> Run:
        stdin, stdout, stderr = stdin or io.StringIO(), stdout or io.StringIO(), stderr or io.StringIO()
        app = Computectl(self._connect, stdin=stdin, stdout=stdout, stderr=stderr)
        try:
            status = app.run([*options, *argv])
        except SystemExit as end:
            status = int(end.code or 0)
        return Run(status, stdout.getvalue(), stderr.getvalue())

    def _connect(self, connection: Connection) -> FakeClient:
        self.connections.append(connection)
        return self.client


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """On a host with the instances web1, web2 and db1."""
    monkeypatch.delenv("COMPUTECTL_TRANSPORT_URL", raising=False)
    handlers = list(logging.getLogger().handlers)
    shell = Shell()
    shell.client.instances = [an_instance(WEB1, "web1"), an_instance(WEB2, "web2"), an_instance(DB1, "db1")]
    yield shell
    logging.getLogger().handlers = handlers
