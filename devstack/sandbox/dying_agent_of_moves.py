"""The dying agent where guests of either hypervisor move between two agents on one machine.

Those of QEMU are emulated, and such may lose some of what they write while they move: they are to write nothing. Those
of the machine of our own have no NICs. An agent that gets no answer from another one asks again sooner than elsewhere.
Usage: as `sandbox.dying_agent`.
"""

from __future__ import annotations

import runpy
import sys
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # it is run by its path

from sandbox.agent_of_emulated_moves import let_emulated_guests_move
from sandbox.agent_without_vhost_net import believe_in_vhost_net

# isort: split
from compute_agent.cli import service  # after `sandbox`, which forbids eventlet
from compute_agent.rpc.peer_client import PeerClient

_PATIENCE = 3.0
"""Seconds."""

if __name__ == "__main__":
    service.__dict__["PeerClient"] = partial(PeerClient, timeout=_PATIENCE)
    let_emulated_guests_move()
    believe_in_vhost_net()
    runpy.run_path(str(Path(__file__).with_name("dying_agent.py")), run_name="__main__")
