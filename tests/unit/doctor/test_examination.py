"""Checks run side by side; whatever one of them does, the report is complete and in order."""

from __future__ import annotations

import threading
import time

import pytest

from compute_agent.doctor.examination import Check, examine
from compute_agent.doctor.finding import Finding, Status, ok


def test_findings_come_in_the_order_of_the_checks() -> None:
    second_is_done = threading.Event()

    def first() -> list[Finding]:
        assert second_is_done.wait(5)  # so they do run side by side
        return [ok("one", "a"), ok("one-more", "b")]

    def second() -> list[Finding]:
        second_is_done.set()
        return [ok("two", "c")]

    assert [finding.check for finding in examine([Check("one", first), Check("two", second)])] == [
        "one",
        "one-more",
        "two",
    ]


def test_a_check_that_hangs_is_a_failure_at_its_deadline() -> None:
    forever = threading.Event()
    begun = time.monotonic()
    hung = Check("disk", lambda: [ok("disk", str(forever.wait(30)))], 0.05, "mount")
    findings = examine([hung, Check("clock", lambda: [ok("clock", "fine")])])
    forever.set()
    assert findings == [Finding("disk", Status.FAILURE, "no answer in 0.05 s", "mount"), ok("clock", "fine")]
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("error", [ValueError("no such thing"), RuntimeError("no such thing")])
def test_a_check_that_breaks_is_a_failure(error: Exception) -> None:
    def broken() -> list[Finding]:
        raise error

    (finding,) = examine([Check("tun", broken)])
    assert finding.status is Status.FAILURE
    assert finding.found == f"cannot be looked at: {type(error).__name__}: no such thing"
    assert finding.remedy


def test_the_others_wait_for_what_is_measured() -> None:
    order: list[str] = []

    def note(name: str) -> list[Finding]:
        order.append(name)
        return [ok(name, "")]

    checks = [Check("a", lambda: note("a")), Check("timed", lambda: note("timed"), alone=True)]
    assert [finding.check for finding in examine(checks)] == ["a", "timed"]
    assert order == ["timed", "a"]
