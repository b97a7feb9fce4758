"""How long nothing is heard of a guest."""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from laboratory.host import VirtualHost
from tests.functional.guests import until

FINE, COARSE = 0.01, 0.05
"""Seconds between two pings. Fine ones take emulated hosts a good part of their time."""


@contextmanager
def listening(host: VirtualHost, address: str, every: float) -> Iterator[list[float]]:
    """Pings meanwhile; then it is known for how many seconds at the most there was no answer."""
    log, gap = f"/tmp/{uuid.uuid4()}", []
    host.run("sh", "-c", f"ping -D -i {every} {address} > {log} 2>&1 & echo $! > {log}.pid")
    yield gap
    until(lambda: host.reaches(address))
    host.run("sh", "-c", f"kill -INT $(cat {log}.pid)")
    times = [float(one) for one in re.findall(r"^\[([\d.]+)\] .* bytes from", host.run("cat", log), re.MULTILINE)]
    gap.append(max(later - former for former, later in itertools.pairwise(times)) - every)
