"""How a machine is to be carried; may change while it is.

Source: QEMU's qapi/migration.json (``migrate-set-parameters``, ``migrate-set-capabilities``,
``query-migrate-capabilities``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

from compute_agent.virt.vmm.monitor.command import Arguments

Name = Literal["events", "pause-before-switchover", "auto-converge"]
_PAUSES: Name = "pause-before-switchover"
"""The guest is halted before the last of it, until somebody says that it may go on."""


class Parameters(Arguments, frozen=True):
    """Of ``migrate-set-parameters``; what is not named stays. A file takes what it is given."""

    max_bandwidth: int | None = None
    """Bytes a second."""
    downtime_limit: int | None = None
    """Milliseconds."""
    throttle_trigger_threshold: int | None = None
    """Percent. Ours does not slow guests down: taken, and without effect."""


class Capability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them. Events are always told, and nothing is slowed down; that it was wished is remembered."""

    capability: Name
    state: bool


class Capabilities(Arguments, frozen=True):
    """Of ``migrate-set-capabilities``."""

    capabilities: Sequence[Capability]


class Wishes:
    """What holds now."""

    def __init__(self) -> None:
        self.bandwidth = 1 << 50
        """Bytes a second."""
        self.downtime = 0.3
        """Seconds."""
        self.capabilities: dict[Name, bool] = dict.fromkeys(get_args(Name), False)

    @property
    def pauses(self) -> bool:
        """Before the last of it."""
        return self.capabilities[_PAUSES]

    def set_parameters(self, parameters: Parameters) -> None:
        """From now on."""
        if parameters.max_bandwidth is not None:
            self.bandwidth = max(1, parameters.max_bandwidth)
        if parameters.downtime_limit is not None:
            self.downtime = parameters.downtime_limit / 1000

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """From the next one on."""
        self.capabilities |= {one.capability: one.state for one in capabilities.capabilities}

    def describe_capabilities(self) -> list[Mapping[str, object]]:
        """What ``query-migrate-capabilities`` answers."""
        return [{"capability": name, "state": state} for name, state in self.capabilities.items()]
