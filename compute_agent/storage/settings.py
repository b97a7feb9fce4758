"""What the storage room is told at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Section ``[storage]``; times in seconds, sizes in bytes."""

    disk_dir: Path
    """One directory an instance."""
    image_dir: Path
    """The image cache."""
    qemu_img: str = "qemu-img"
    download_timeout: float = 600.0
    """For a whole image."""
    connect_timeout: float = 10.0
    reserved_space: int = 256 * 1024 * 1024
    """Never left free less than this on either file system."""
