"""`make fuzz`: many cases of hostile input for each target, in several processes; prints what it did and found."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import resource
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.fuzz.target import Finding, run_cases
from tests.fuzz.targets import TARGETS

_MEMORY = 2 * 1024**3
"""Bytes of address space that a process of ours may have: what a case asks for beyond that is a finding."""
_PIECE = 2000
"""Cases that a process does in one go."""
_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Some cases of a target."""

    target: str
    seed: str
    numbers: range


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a piece; CPU seconds, and the most MiB that its process has had."""

    findings: Sequence[Finding]
    seconds: float
    memory: int


def main() -> int:
    """One line a target; 1 where there were findings."""
    wanted = _arguments()
    names = wanted.targets or list(TARGETS)
    if wanted.only is not None:
        return _report([one for name in names for one in _again(name, wanted.seed, wanted.only)])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.getLogger().addHandler(logging.NullHandler())  # what is refused is logged, thousands of times
    findings: list[Finding] = []
    total = sum(TARGETS[name].weight for name in names)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        for name in names:
            cases = max(1, round(wanted.cases * TARGETS[name].weight / total))
            findings += _run(pool, name, wanted.seed, cases)
    return _report(findings)


def _run(pool: ProcessPoolExecutor, name: str, seed: str, cases: int) -> list[Finding]:
    began = time.monotonic()
    done = list(pool.map(_work, _pieces(name, seed, cases)))
    findings = [finding for piece in done for finding in piece.findings]
    took, memory = time.monotonic() - began, max(piece.memory for piece in done)
    line = f"{name:15} {cases:>9} cases {took:7.1f} s {memory:5} MiB at most, seed {seed}: {len(findings)} findings"
    print(line, flush=True)
    return findings


def _pieces(name: str, seed: str, cases: int) -> Iterator[Piece]:
    for start in range(0, cases, _PIECE):
        yield Piece(name, seed, range(start, min(start + _PIECE, cases)))


def _work(piece: Piece) -> Done:
    began = time.process_time()
    findings = list(run_cases(TARGETS[piece.target], piece.seed, piece.numbers))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Done(findings, time.process_time() - began, memory)


def _again(name: str, seed: str, number: int) -> list[Finding]:
    return list(run_cases(TARGETS[name], seed, [number]))


def _report(findings: Sequence[Finding]) -> int:
    for finding in findings[:_MOST_SHOWN]:
        print(f"\n{finding}")
    return 1 if findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", default=None, help="any text; the same one makes the same cases")
    parser.add_argument("--only", type=int, help="the number of one case, to see a finding again")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS])
    arguments = parser.parse_args()
    arguments.seed = arguments.seed or secrets.token_hex(4)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
