"""A block server that has others to accept first."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.host.processes import Process
from compute_agent.storage.server import connections
from compute_agent.storage.server.connections import connect_to_nbd

NOBODY = cast(Process, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nbd.sock"


@pytest.fixture
def server(path: Path) -> Iterator[socket.socket]:
    """It has room for one that waits, which has gone away meanwhile."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(bytes(path))
        server.listen(0)
        first.connect(bytes(path))
        first.close()
        yield server


def test_who_connects_waits_until_the_server_accepts(server: socket.socket, path: Path) -> None:
    wanted: list[int] = []
    waiting = threading.Thread(target=lambda: wanted.append(connect_to_nbd(path, NOBODY)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive() and wanted == []
    server.accept()[0].close()
    waiting.join(5)
    with socket.socket(fileno=wanted[0]) as ours, server.accept()[0] as theirs:
        assert ours.getblocking() and ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)
        ours.sendall(b"hello")
        assert theirs.recv(5) == b"hello"


def test_a_server_that_never_accepts_may_be_asked_again(
    server: socket.socket, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_TIMEOUT", 1)
    with pytest.raises(DeadlineExceeded, match=r"nbd\.sock: nobody is accepted within 1 s"):
        connect_to_nbd(path, NOBODY)


def test_where_nobody_listens_nobody_is_waited_for(server: socket.socket, path: Path) -> None:
    server.close()
    with pytest.raises(StorageError, match="Connection refused"):
        connect_to_nbd(path, NOBODY)
