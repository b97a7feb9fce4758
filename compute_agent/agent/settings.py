"""What the agent itself is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """Section ``[migration]``; times in seconds."""

    address: str = ""
    """Where guests come in, and where they leave from; empty: what the host's name resolves to."""
    encrypt: bool = True
    """What guests consist of, on its way."""
    first_port: int = 49152
    last_port: int = 49215
    max_concurrent: int = 2
    """Guests that leave this host at once; others wait."""
    max_bandwidth: int = 0
    """MiB a second for the memory of a guest, and for each of its disks; 0: as fast as it goes."""
    compression: Literal["none", "xbzrle"] = "none"
    """Of memory that a guest writes to while it is carried."""
    downtime: float = 0.3
    """That a guest may stand still for the last of its memory, at first."""
    longest_downtime: float = 5.0
    """The same, in the end."""
    timeout: float = 3600.0
    """For the memory; in the second half of it the guest is slowed down."""
    on_timeout: Literal["abort", "force", "post-copy"] = "abort"
    """``force``: the guest is paused until all is there; ``post-copy``: it goes on there, and the rest follows."""
    prepare_timeout: float = 1800.0
    """For the destination to make disks; it may have to fetch images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Section ``[agent]``; times in seconds."""

    host: str
    state_dir: Path
    """Where the journal is kept."""
    workers: int = 64
    """Operations on different instances that may run at once."""
    shutdown_timeout: float = 60.0
    """How long a guest may take to shut down where the request does not say."""
    cpu_allocation_ratio: float = 1.0
    """vCPUs that one instance may have, for each CPU of the host."""
    start_guests_at_boot: bool = True
    """Those that ran when the host went down."""
    reconcile_interval: float = 60.0
    operation_history: int = 10000
    """Finished operations that the journal remembers."""
    migration: MigrationSettings = MigrationSettings()
