"""A shell on the serial console of a guest in a virtual host."""

from __future__ import annotations

import sys
from pathlib import Path

from laboratory.host import VirtualHost

ROOT = Path(__file__).parents[2]
_INSIDE = f"""
import sys; from pathlib import Path; sys.path.insert(0, {str(ROOT)!r})
from tests.functional.over_console import run_over
print(run_over(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
"""
_START = 30.0
"""Seconds that Python takes to start there, at the most."""


def run_on_console(host: VirtualHost, socket: object, command: str, seconds: float = 60.0) -> str:
    """What the command printed; it has to succeed. `socket`: the console's path in the host."""
    call = (sys.executable, "-c", _INSIDE, str(socket), command, str(seconds))
    return host.run(*call, seconds=seconds + _START)
