"""File systems that do not answer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_agent.errors import StorageError
from compute_agent.storage.answers import Answers


class Silence:
    """A file system that says nothing until it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.over = threading.Event()

    def statvfs(self, point: str) -> None:
        self.asked += 1
        assert self.over.wait(10)
        raise OSError


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    silence = Silence()
    monkeypatch.setattr(os, "statvfs", silence.statvfs)
    yield silence
    silence.over.set()


def test_one_that_answers(tmp_path: Path) -> None:
    Answers(10.0).require(tmp_path / "missing")


def test_one_that_is_silent_is_asked_once_and_waited_for_once(silence: Silence, tmp_path: Path) -> None:
    answers, began = Answers(0.5), time.monotonic()
    for name in "abc":
        with pytest.raises(StorageError, match=f"{name}: the file system at .* does not answer within 0.5 s"):
            answers.require(tmp_path / name)
    assert silence.asked == 1
    assert 0.5 <= time.monotonic() - began < 1.5


def test_one_that_answers_again_is_asked_again(silence: Silence, tmp_path: Path) -> None:
    silence.over.set()
    answers = Answers(10.0)
    for expected in (1, 2):
        answers.require(tmp_path)
        assert silence.asked == expected
