"""Two things measured in one run, and what is made of them."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Median seconds of both sides, and how much of theirs ours may take."""

    name: str
    ours: float
    theirs: float
    goal: float
    other: str
    """Who they are."""

    @property
    def ratio(self) -> float:
        """Ours to theirs."""
        return self.ours / self.theirs

    def __str__(self) -> str:
        met = "met" if self.ratio <= self.goal else "MISSED"
        times = f"{self.ours * 1000:.1f} ms against {self.theirs * 1000:.1f} ms"
        return f"{self.name}: {self.ratio:.2f} x {self.other} (goal {self.goal:.2f}, {met}; {times})"


def compared(name: str, pairs: Sequence[tuple[float, float]], goal: float, other: str) -> Comparison:
    """The medians of (ours, theirs) measured turn by turn, so that a busy moment of the machine hits both."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Comparison(name=name, ours=ours, theirs=theirs, goal=goal, other=other)


def seconds(call: Callable[[], object]) -> float:
    """How long it takes."""
    began = monotonic()
    call()
    return monotonic() - began


def at_once(pool: Executor, calls: Sequence[Callable[[], object]]) -> float:
    """Seconds until all of them are through."""
    began = monotonic()
    for one in [pool.submit(call) for call in calls]:
        one.result()
    return monotonic() - began


def print_lines(run: Callable[[Path], Iterable[object]]) -> None:
    """Of a benchmark that is run alone; it is given the directory of its lab."""
    with tempfile.TemporaryDirectory(prefix="t") as path:
        for line in run(Path(path) / "lab"):
            print(line, flush=True)
