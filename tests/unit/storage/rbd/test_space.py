"""What is known of a pool's room, by a clock of the test's."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from compute_agent.errors import ComputeAgentError, DeadlineExceeded, StorageError
from compute_agent.storage.rbd.space import PoolSpace


class Pool:
    """Stands in for a cluster, which answers, or does not."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.error: ComputeAgentError | None = None
        self.space = PoolSpace(self._answer, lambda: self.now)

    def _answer(self) -> Mapping[str, int]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"total": 10, "free": 10 - self.asked}


def test_what_is_known_is_not_asked_again_at_once() -> None:
    pool = Pool()
    pool.space.look()
    pool.now += 29
    pool.space.look()
    assert pool.space.last_known() == {"total": 10, "free": 9, "age": 29}
    pool.now += 1
    pool.space.look()
    assert pool.space.last_known() == {"total": 10, "free": 8, "age": 0}


def test_nothing_is_known_before_the_first_answer(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool()
    pool.error = StorageError("no monitor answers")
    pool.space.look()
    pool.space.look()
    assert pool.space.last_known() is None
    assert pool.asked == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "an outage is told once"


def test_what_was_known_grows_old_while_the_cluster_is_away() -> None:
    pool = Pool()
    pool.space.look()
    pool.error = DeadlineExceeded("no answer")
    pool.now += 3600
    pool.space.look()
    assert pool.space.last_known() == {"total": 10, "free": 9, "age": 3600}
    pool.error = None
    pool.space.look()
    assert pool.space.last_known() == {"total": 10, "free": 7, "age": 0}
