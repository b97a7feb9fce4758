"""What the agent itself is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    reconcile_interval: float = 60.0
    operation_history: int = 10000
    """Finished operations that the journal remembers."""
