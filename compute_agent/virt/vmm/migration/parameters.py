"""How a machine is to be carried; may change while it is.

Source: QEMU's qapi/migration.json (``migrate-set-parameters``, ``migrate-set-capabilities``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from compute_agent.virt.vmm.monitor.command import Arguments

Name = Literal["events", "pause-before-switchover", "auto-converge"]
_PAUSES: Name = "pause-before-switchover"


class Parameters(Arguments, frozen=True):
    """Of ``migrate-set-parameters``; what is not named stays. A file takes what it is given."""

    max_bandwidth: int | None = None
    """Bytes a second."""
    downtime_limit: int | None = None
    """Milliseconds."""
    throttle_trigger_threshold: int | None = None
    """Percent. Ours does not slow guests down: taken, and without effect."""


class Capability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of them. Events are always told."""

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
        self.pauses = False
        """The guest is halted before the last of it, until somebody says that it may go on."""

    def set_parameters(self, parameters: Parameters) -> None:
        """From now on."""
        if parameters.max_bandwidth is not None:
            self.bandwidth = max(1, parameters.max_bandwidth)
        if parameters.downtime_limit is not None:
            self.downtime = parameters.downtime_limit / 1000

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """From the next one on."""
        for one in capabilities.capabilities:
            if one.capability == _PAUSES:
                self.pauses = one.state
