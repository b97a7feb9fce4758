"""Processors run together, stop together, and none fails in silence; each is a fake here."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from compute_agent.virt.vmm.processors import Processors
from tests.unit.virt.waiting import until


class Fake:
    """A vCPU whose guest never stops by itself."""

    def __init__(self) -> None:
        self.runs = 0
        self.completed = 0
        self._kicked = threading.Event()

    def run(self) -> int:
        self.runs += 1
        assert self._kicked.wait(10), "nobody has kicked it"
        return 10

    def kick(self) -> None:
        self._kicked.set()

    def clear_kick(self) -> None:
        self._kicked.clear()

    def complete_io(self) -> int:
        self.completed += 1
        return 10 if self.completed % 2 == 0 else 6


class Machine:
    def __init__(self) -> None:
        self.fakes = [Fake(), Fake()]
        self.failures: list[str] = []
        self.error: Exception | None = None
        self.processors = Processors(self.fakes, self.serve, self.failures.append)

    def serve(self, number: int, reason: int) -> None:
        if self.error and number == 1:
            raise self.error

    @property
    def runs(self) -> list[int]:
        return [fake.runs for fake in self.fakes]


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.processors.stop()
    machine.processors.close()


def test_they_run_when_they_are_told_to_and_not_before(machine: Machine) -> None:
    machine.processors.stop()
    assert machine.runs == [0, 0]
    machine.processors.go()
    until(lambda: machine.runs == [1, 1])


def test_when_they_have_stopped_each_has_taken_the_answer_it_waited_for(machine: Machine) -> None:
    machine.processors.go()
    until(lambda: machine.runs == [1, 1])
    machine.processors.stop()
    assert [fake.completed for fake in machine.fakes] == [2, 2]


def test_they_run_again(machine: Machine) -> None:
    for round in range(1, 50):
        machine.processors.go()
        until(lambda wanted=[round] * 2: machine.runs == wanted)
        machine.processors.stop()


def test_one_that_fails_stops_all_and_says_why_and_can_run_again(machine: Machine) -> None:
    machine.error = RuntimeError("a defect")
    machine.processors.go()
    until(lambda: machine.runs == [1, 1])
    machine.fakes[1].kick()
    until(lambda: machine.failures == ["processor 1: a defect"])
    machine.processors.stop()
    machine.error = None
    machine.processors.go()
    until(lambda: machine.runs == [2, 2])
