"""The thread that owns the connection to the switch's database: the library's copy of it is not safe to share."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeVar

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, InvalidConfiguration, NetworkError
from compute_agent.network.ovs.errand import Errand
from compute_agent.network.ovs.follower import Follower
from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.request import Request

LOG = logging.getLogger(__name__)

_GRACE = 1.0
"""Seconds past its deadline that the thread may take to answer; it has its own clock."""

_RECOVERY_PAUSE = 1.0
"""Seconds between a bug's traceback and the next connection."""

_STOPPING = "the agent is stopping, and lets go of the switch"

T = TypeVar("T")


class Ovsdb:
    """`ask` from any thread. Making one does not wait for the switch.

    :raises InvalidConfiguration: `connection` is not one that OVSDB knows.
    """

    def __init__(self, connection: str) -> None:
        if not connection.startswith(("unix:", "tcp:")):
            raise InvalidConfiguration("network.ovsdb_connection", connection, "must begin with unix: or tcp:")
        self._connection = connection
        self._inbox: deque[Request] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ovsdb", daemon=True)
        self._thread.start()

    def ask(self, errand: Errand[T], deadline: float) -> T:
        """Have an errand done by `deadline`, on the monotonic clock.

        :raises NetworkError: refused or impossible; or the server is away, and nothing was written.
        :raises DeadlineExceeded: it was sent, and whether it was done is unknown.
        """
        request = Request(errand, deadline)
        self._put(request)
        try:
            outcome: T = request.future.result(max(0.0, deadline - time.monotonic()) + _GRACE)
        except TimeoutError:
            raise DeadlineExceeded(f"the thread that follows {self._connection} did not answer in time") from None
        return outcome

    def close(self) -> None:
        """Leave the server; everything in it stays as it is. May be repeated."""
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
            os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)

    def _put(self, request: Request) -> None:
        with self._lock:
            if self._closing.is_set():
                raise NetworkError(_STOPPING)
            self._inbox.append(request)
            os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._follow()
            self._closing.wait(_RECOVERY_PAUSE)

    def _follow(self) -> None:
        follower = Follower(self._connection)
        error: ComputeAgentError = NetworkError(_STOPPING)
        try:
            while not self._closing.is_set():
                follower.step(self._asked())
                self._sleep(follower)
        except Exception:
            LOG.exception("Following the switch's database at %s broke; connecting anew", self._connection)
            error = DeadlineExceeded("an internal error while changing the switch; the log has its traceback")
        finally:
            follower.close(error, self._asked())

    def _sleep(self, follower: Follower) -> None:
        poller = Poller()
        poller.fd_wait(self._bell, select.POLLIN)
        follower.wait(poller)
        poller.block()
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _asked(self) -> Iterator[Request]:
        while self._inbox:
            yield self._inbox.popleft()
