"""What is fed with hostile input, and how one case of it is run: each can be made again from its seed and number."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from random import Random

LONGEST_SHOWN = 4000
"""Characters of a reproducer."""


@dataclass
class Case:
    """One input: what it is made from, and what it has become."""

    random: Random
    shown: list[object] = field(default_factory=list)

    def show(self, made: object) -> None:
        """Remember for the reproducer what is about to be fed."""
        self.shown.append(made)


Check = Callable[[Case], None]
"""Feeds one case; whatever it raises is a finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`open` makes what all cases of one process are fed to."""

    name: str
    open: Callable[[], AbstractContextManager[Check]]
    weight: float
    """How large its part of all cases is."""
    deadline: float = 2.0
    """Seconds that one case may take, on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A case that went wrong."""

    target: str
    seed: str
    number: int
    error: str
    trace: str
    made: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz.run --seed {self.seed} --only {self.number} {self.target}"
        return f"{self.target}: {self.error}\n  again: {again}\n  input: {self.made}\n{self.trace}"


class Overdue(BaseException):
    """A case took longer than its deadline: nothing that is fed may catch it."""


def run_cases(target: Target, seed: str, numbers: Iterable[int]) -> Iterator[Finding]:
    """Feed the cases of these numbers, in the main thread."""
    with target.open() as check:
        for number in numbers:
            case = Case(Random(f"{seed} {target.name} {number}"))
            try:
                with _deadline(target.deadline):
                    check(case)
            except (Exception, SystemExit, Overdue) as error:  # noqa: BLE001  (whatever it is, it is what we look for)
                yield _finding(target, seed, number, case, error)


def _finding(target: Target, seed: str, number: int, case: Case, error: BaseException) -> Finding:
    return Finding(
        target=target.name,
        seed=seed,
        number=number,
        error=f"{type(error).__name__}: {error}"[:LONGEST_SHOWN],
        trace="".join(traceback.format_exception(error)[-6:])[:LONGEST_SHOWN],
        made="; ".join(map(_readable, case.shown)),
    )


def _readable(made: object) -> str:
    try:
        text = made.hex() if isinstance(made, bytes) else repr(made)
    except RecursionError:
        return f"a {type(made).__name__}, nested too deeply to be shown"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text)} characters)"


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    began = time.monotonic()

    def stop(*_: object) -> None:
        raise Overdue(f"not done after {time.monotonic() - began:.1f} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
