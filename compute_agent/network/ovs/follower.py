"""Follows the switch's database and carries out errands there, in one thread and one transaction at a time.

What is asked while a transaction is under way goes into the next one together: fifty ports plugged at once
take a handful of transactions, not fifty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ovs.db.idl import Transaction

from compute_agent.errors import ComputeAgentError, NetworkError
from compute_agent.network.ovs.poller import Poller
from compute_agent.network.ovs.request import Request
from compute_agent.network.ovs.switch import Switch

LOG = logging.getLogger(__name__)

_RESTART = 3.0
"""Seconds without the server that an errand bears with: a restart of it takes less."""

_ATTEMPT = 1.5
"""Seconds that an errand waits for a server that has been away for longer: enough for the next try to connect."""


class Follower:
    """`step` as often as `wait` wakes up; each request is answered by its deadline."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._switch = Switch(connection)
        self._requests: list[Request] = []
        self._transaction: Transaction | None = None
        self._batch: list[Request] = []
        self._away_since: float | None = time.monotonic()

    def step(self, asked: Iterable[Request]) -> None:
        """Take in what is new, from the server and from those who ask, and do what can be done."""
        self._requests.extend(asked)
        self._switch.run()
        self._watch_connection()
        self._advance_transaction()
        if self._switch.in_step:
            self._begin_transaction()
            for request in self._requests:
                request.settle(self._switch)
        self._give_up()
        self._requests = [request for request in self._requests if not request.is_answered]

    def wait(self, poller: Poller) -> None:
        """Have `poller` wake up when there is something to do."""
        self._switch.wait(poller)
        if self._requests:
            first = min(self._patience(request) for request in self._requests)
            poller.timer_wait((first - time.monotonic()) * 1000)

    def close(self, error: ComputeAgentError, asked: Iterable[Request]) -> None:
        """Leave the server; those who still wait, and those who have just asked, get `error`."""
        self._switch.close()
        for request in (*self._requests, *asked):
            request.fail(error)

    def _watch_connection(self) -> None:
        if self._switch.in_step and self._away_since is not None:
            LOG.info("Following the switch's database at %s", self._connection)
            self._away_since = None
        elif not self._switch.in_step and self._away_since is None:
            LOG.warning("Lost the switch's database at %s", self._connection)
            self._away_since = time.monotonic()

    def _begin_transaction(self) -> None:
        if self._transaction is not None:
            return
        batch = self._next_batch()
        if batch:
            self._transaction = self._switch.begin()
            self._batch = [request for request in batch if request.write(self._switch)]
            self._advance_transaction()

    def _next_batch(self) -> list[Request]:
        fresh = [request for request in self._requests if request.configuration is None and not request.is_answered]
        if fresh and fresh[0].alone:
            return fresh[:1]
        return [request for request in fresh if not request.alone]

    def _advance_transaction(self) -> None:
        if self._transaction is None:
            return
        status = self._transaction.commit()
        if status == Transaction.INCOMPLETE:
            for request in self._batch:
                request.was_sent = True
        else:
            self._conclude(self._transaction, status)
            self._transaction, self._batch = None, []

    def _conclude(self, transaction: Transaction, status: str) -> None:
        if status == Transaction.SUCCESS:
            for request in self._batch:
                request.configuration = transaction.get_increment_new_value()
        elif status == Transaction.TRY_AGAIN:
            LOG.info("A change of the switch's database was lost, or was not: looking again when connected")
        elif status != Transaction.UNCHANGED:
            self._refused(f"the switch's database refused it: {transaction.get_error()}")

    def _refused(self, reason: str) -> None:
        for request in self._batch:
            if len(self._batch) == 1:
                request.fail(NetworkError(reason))
            request.alone = True

    def _give_up(self) -> None:
        for request in self._requests:
            if time.monotonic() >= self._patience(request):
                request.give_up(self._switch, self._connection)

    def _patience(self, request: Request) -> float:
        """When to give a request up: before its deadline if the server is away and has never heard of it."""
        if self._away_since is None or request.was_sent:
            return request.deadline
        return min(request.deadline, max(self._away_since + _RESTART, request.asked_at + _ATTEMPT))
