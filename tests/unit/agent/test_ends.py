"""Whoever waits for an operation hears of its end at once, and takes nobody's place for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from compute_agent.agent.ends import AT_ONCE, Ends

LONG = 30.0
"""Seconds: a test that waits for this has failed."""


@contextmanager
def waiting(ends: Ends, is_over: Callable[[], bool], count: int = 1) -> Iterator[Event]:
    """So many questions wait; the event: one is answered."""
    answered, looked = Event(), [Event() for _ in range(count)]

    def ask(has_looked: Event) -> None:
        ends.wait_for(lambda: has_looked.set() or is_over(), LONG)  # type: ignore[func-returns-value]
        answered.set()

    threads = [Thread(target=ask, args=(one,)) for one in looked]
    for thread in threads:
        thread.start()
    assert all(one.wait(LONG) for one in looked)
    yield answered
    ends.close()
    for thread in threads:
        thread.join(LONG)


def test_a_question_waits_for_the_end_that_it_is_about() -> None:
    ends, over = Ends(), Event()
    with waiting(ends, over.is_set) as answered:
        ends.wake()  # something else has ended
        assert not answered.wait(0.05)
        over.set()
        ends.wake()
        assert answered.wait(LONG)


def test_what_has_ended_is_not_waited_for_and_nothing_is_for_ever() -> None:
    began = time.monotonic()
    Ends().wait_for(lambda: True, LONG)
    Ends().wait_for(lambda: False, 0.01)
    Ends().wait(0.01)
    assert time.monotonic() - began < LONG


def test_too_many_questions_do_not_wait() -> None:
    ends = Ends()
    with waiting(ends, lambda: False, AT_ONCE) as answered:
        began = time.monotonic()
        ends.wait_for(lambda: False, LONG)
        assert time.monotonic() - began < LONG
        assert not answered.is_set()


def test_an_agent_that_stops_answers_all_of_them() -> None:
    ends = Ends()
    with waiting(ends, lambda: False, 2) as answered:
        ends.close()
        assert answered.wait(LONG)
    began = time.monotonic()
    ends.wait_for(lambda: False, LONG)
    assert time.monotonic() - began < LONG
