"""What the network room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Section ``[network]``; times in seconds."""

    host: str
    """This host's name: part of the mark that our ports carry."""
    ovsdb_connection: str = "unix:/run/openvswitch/db.sock"
    vhost_net: Literal["auto", "on", "off"] = "auto"
    plug_timeout: float = 10.0
