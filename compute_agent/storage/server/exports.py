"""What a block server serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compute_agent.instance.devices import FileSource
from compute_agent.instance.wire import CacheMode
from compute_agent.storage.rbd.credentials import Credentials

Transport = Literal["nbd", "vhost-user-blk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One disk."""

    name: str
    """``disk0``, …; it begins with a letter, and has no ``.`` or ``-``."""
    read_only: bool = False
    cache: CacheMode = "writeback"
    """Whether the server keeps blocks in its memory; what the guest flushes is always written."""
    transport: Transport = "nbd"


@dataclass(frozen=True, slots=True, kw_only=True)
class RbdExport(Export):
    """An image in Ceph."""

    pool: str
    image: str
    user: str
    """Without ``client.``."""
    credentials: Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class FileExport(Export):
    """A local file. The server becomes its owner if it may write to it; what it stands on is made readable to all."""

    source: FileSource
