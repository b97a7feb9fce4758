"""Runs checks, most of them side by side, each with a deadline; the findings come in the order of the checks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from compute_agent.doctor.finding import Finding, failure

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """Something that can be looked at by itself."""

    name: str
    run: Callable[[], Sequence[Finding]]
    deadline: float = 10.0
    """Seconds."""
    remedy_of_silence: str = "dmesg | tail"
    """What helps where it does not come to an end."""
    alone: bool = False
    """It measures times, or needs all of the processors: nothing runs beside it."""


def examine(checks: Iterable[Check]) -> list[Finding]:
    """Run them all; one that breaks, or takes longer than it may, is a failure."""
    checks = list(checks)
    found: dict[Check, Sequence[Finding]] = {}
    for group in [*([check] for check in checks if check.alone), [check for check in checks if not check.alone]]:
        found |= _side_by_side(group)
    return [finding for check in checks for finding in found[check]]


def _side_by_side(checks: Iterable[Check]) -> dict[Check, Sequence[Finding]]:
    begun = time.monotonic()
    running = [(check, _begin(check)) for check in checks]
    return {check: _findings(check, future, begun) for check, future in running}


def _begin(check: Check) -> Future[Sequence[Finding]]:
    """In a thread that nobody waits for at the end: a system call that hangs cannot be taken back."""
    future: Future[Sequence[Finding]] = Future()
    threading.Thread(target=_run, args=(check, future), name=f"check-{check.name}", daemon=True).start()
    return future


def _run(check: Check, future: Future[Sequence[Finding]]) -> None:
    try:
        future.set_result(check.run())
    except Exception as error:
        # The outermost edge of this thread: the other checks are to be reported.
        LOG.debug("check %s broke", check.name, exc_info=True)
        found = f"cannot be looked at: {type(error).__name__}: {error}"
        future.set_result([failure(check.name, found, "computectl --debug doctor")])


def _findings(check: Check, future: Future[Sequence[Finding]], begun: float) -> Sequence[Finding]:
    try:
        return future.result(max(0.0, begun + check.deadline - time.monotonic()))
    except TimeoutError:
        return [failure(check.name, f"no answer in {check.deadline:g} s", check.remedy_of_silence)]
