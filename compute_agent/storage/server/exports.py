"""What a block server serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from compute_agent.instance.block_device import DiskQos
from compute_agent.instance.devices import FileSource
from compute_agent.instance.wire import Aio, CacheMode, DetectZeroes
from compute_agent.storage.rbd.credentials import Credentials

Transport = Literal["nbd", "vhost-user-blk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One disk. What follows `transport` is for vhost-user-blk: whoever takes NBD sees to it himself."""

    name: str
    """``disk0``, …; it begins with a letter, and has no ``.`` or ``-``."""
    read_only: bool = False
    cache: CacheMode = "writeback"
    """Whether the server keeps blocks in its memory; what the guest flushes is always written."""
    transport: Transport = "nbd"
    discard: bool = True
    """What the guest discards is given back."""
    detect_zeroes: DetectZeroes = "off"
    passphrase: bytes | None = field(default=None, repr=False)
    """Opens the LUKS container that this is; None: it is passed on as it is, container or not."""
    queues: int = 1
    """Of a virtio device."""
    qos: DiskQos | None = None


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
    """A local file, with what it stands on. Each is the server's for as long as that takes to open it."""

    source: FileSource
    aio: Aio = "threads"


ExportOf = Callable[[str], Export]
"""As the server knows a disk that it has open, by the disk's name."""
