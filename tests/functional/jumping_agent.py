"""A program to run in place of compute-agent: the same, but the clock of its host jumps.

Usage: jumping_agent.py FILE [compute-agent's arguments]. FILE says how many seconds later than it is the clock says it
is; it is read each time that somebody looks at the clock with `time.time`. That time goes by is as it was: monotonic
clocks do not jump.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path


def _jump(file: Path, seconds: Callable[[], float], nanoseconds: Callable[[], int]) -> None:
    """Before anything is imported that might keep the clock."""
    time.time = lambda: seconds() + float(file.read_text())
    time.time_ns = lambda: nanoseconds() + int(float(file.read_text()) * 1e9)


if __name__ == "__main__":
    _jump(Path(sys.argv[1]), time.time, time.time_ns)
    from compute_agent.cli.agent import main

    sys.exit(main(sys.argv[2:]))
