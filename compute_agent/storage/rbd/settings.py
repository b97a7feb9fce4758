"""What disks in Ceph are told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compute_agent.storage.rbd.credentials import CephSettings, ClusterUser
from compute_agent.storage.server.settings import BlockServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPool:
    """Where this node makes the instances' own disks."""

    user: ClusterUser
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RbdSettings:
    """Section ``[ceph]``."""

    ceph: CephSettings
    servers: BlockServerSettings
    state_dir: Path
    """Keeps what a cluster has still to do."""
    own_pool: OwnPool | None = None
    """None: volumes in Ceph can be attached, but no disk is made there."""
