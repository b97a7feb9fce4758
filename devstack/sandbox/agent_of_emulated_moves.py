"""The agent where all guests are emulated: here they move, as others do elsewhere.

For times only: QEMU 7.2 loses some of what an emulated guest writes while it moves, which is why the agent refuses it.
Usage: as ``compute-agent``.
"""

from __future__ import annotations

import sys

import msgspec

from compute_agent.cli.agent import main
from compute_agent.instance.machine import Machine
from compute_agent.instance.migration import HostFacts
from compute_agent.virt.qemu import driver
from compute_agent.virt.qemu.capabilities import Capabilities
from compute_agent.virt.qemu.migration.compatibility import facts_of


def _as_of_others(machine: Machine, found: Capabilities, cpu_features: frozenset[str] = frozenset()) -> HostFacts:
    return facts_of(msgspec.structs.replace(machine, accelerator="kvm"), found, cpu_features)


def let_emulated_guests_move() -> None:
    """In this process."""
    driver.__dict__["facts_of"] = _as_of_others


if __name__ == "__main__":
    let_emulated_guests_move()
    sys.exit(main())
