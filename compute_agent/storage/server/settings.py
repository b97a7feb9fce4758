"""What block servers are started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BLOCK_SERVER_UIDS = 65536
"""As many block servers can run at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockServerSettings:
    """Times in seconds."""

    run_dir: Path
    """Does not survive a reboot of the host: sockets, one directory an instance."""
    program: str = "qemu-storage-daemon"
    uid_base: int = 1_900_100_000
    """The first of `BLOCK_SERVER_UIDS` user and group numbers that nobody else on this host may have."""
    cgroup_dir: Path = Path("/sys/fs/cgroup/compute-agent-servers")
    """Holds the control groups, one an instance; where the host has no cgroup v2 there, servers have no limits."""
    start_timeout: float = 60.0
    """To begin to serve."""
    open_timeout: float = 30.0
    """To open a disk, with all that it stands on."""
    command_timeout: float = 10.0
    """For anything else that a server is asked."""
    copy_halt_timeout: float = 60.0
    """Without anything copied, after which the copying of a running guest's disks is given up."""
    kill_timeout: float = 30.0
    """For a killed server to be gone."""
