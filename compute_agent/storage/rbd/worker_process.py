"""The agent's side of one worker process: calls with a deadline, each answered or not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from compute_agent.errors import DeadlineExceeded, StorageError
from compute_agent.storage.rbd.credentials import ClusterUser, Credentials
from compute_agent.storage.secrets import readable_once

_MODULE = "compute_agent.storage.rbd.worker"
_CONNECTED_WITHIN = 15.0
"""Seconds; the worker itself gives a monitor 3."""
_NO_SECRETS = {"PATH": os.defpath}
_CHUNK = 1 << 16

Answer = Mapping[str, Any]
"""``result``; or ``error`` (``in_use``, ``refused`` or ``failed``) and ``reason``."""


class WorkerProcess:
    """One connection to one cluster; for one thread at a time. Any error but an answer ends it.

    :raises StorageError: the cluster cannot be reached; no process is left.
    """

    def __init__(self, user: ClusterUser, credentials: Credentials) -> None:
        self._received = b""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = _start(theirs.fileno(), user, credentials)
        try:
            answer = self._read(time.monotonic() + _CONNECTED_WITHIN)
        except DeadlineExceeded as error:  # nothing has been asked of it, so nothing is unknown
            raise StorageError(f"cluster {user.cluster_name}: {error}") from error
        if "error" in answer:
            self.kill()
            raise StorageError(
                f"cluster {user.cluster_name} cannot be reached as client.{user.auth_username} "
                f"with {credentials.conf}: {answer['reason']}"
            )
        self.address: str = answer["result"]
        """What the cluster calls it."""

    def has_ended(self) -> bool:
        """Nobody asks it to, but a process may die."""
        return self._process.poll() is not None

    def call(self, verb: str, arguments: Mapping[str, Any], seconds: float) -> Answer:
        """What the worker answers.

        :raises DeadlineExceeded: it did not, in time or at all: it has been killed, and what it did is unknown.
        """
        deadline = time.monotonic() + seconds
        try:
            self._control.settimeout(seconds)
            self._control.sendall(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise self._lost(f"its worker takes no call: {error}") from error
        return self._read(deadline)

    def kill(self) -> None:
        """End it, whatever it does. May be repeated."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _read(self, deadline: float) -> Answer:
        began = time.monotonic()
        try:
            while not self._received.endswith(b"\n"):
                self._control.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self._control.recv(_CHUNK)
                if not chunk:
                    raise self._lost("its worker ended before it had answered")
                self._received += chunk
        except TimeoutError as error:
            raise self._lost(f"no answer after {time.monotonic() - began:.1f} s") from error
        except OSError as error:
            raise self._lost(f"its worker is gone: {error}") from error
        line, self._received = self._received, b""
        answer: Answer = json.loads(line)
        return answer

    def _lost(self, reason: str) -> DeadlineExceeded:
        self.kill()
        return DeadlineExceeded(reason)


def _start(control: int, user: ClusterUser, credentials: Credentials) -> subprocess.Popen[bytes]:
    with readable_once(credentials.key) as key:
        words = (str(control), str(key), user.cluster_name, str(credentials.conf), user.auth_username)
        return subprocess.Popen(
            [sys.executable, "-I", "-m", _MODULE, *words],
            pass_fds=[control, key],
            stdin=subprocess.DEVNULL,
            env=_NO_SECRETS,
            cwd="/",
            start_new_session=True,
        )
